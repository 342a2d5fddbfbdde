"""How to reach this server from another machine, printed once when it starts."""

from __future__ import annotations

import getpass
import os
import socket

import streamlit as st


@st.cache_resource(show_spinner=False)
def say_how_to_reach() -> None:
    """Print how to get here; a server that listens on this machine only can be reached through a tunnel alone."""
    print(f"\n{reach_words(st.get_option('server.address'), st.get_option('server.port'))}\n", flush=True)


def reach_words(address: str | None, port: int) -> str:
    """The tunnel command; in a container, whose name nobody outside knows, what to do instead."""
    if os.environ.get("DYNAT_CONTAINER", "") not in ("", "0"):
        return (
            f"Dynat listens on port {port} of its container. Open the port that it is published as, such as\n"
            f"  http://localhost:{port}  with  -p 127.0.0.1:{port}:{port}\n"
            "From another machine: ssh -L to the machine that the container runs on (docs/remote.md)."
        )
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "user"
    return (
        f"Dynat listens on {address or 'all addresses'}, port {port}. From another machine:\n"
        f"  ssh -L {port}:localhost:{port} {user}@{socket.gethostname()}\n"
        f"then open http://localhost:{port} there."
    )
