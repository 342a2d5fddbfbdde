"""How to reach this server from another machine, printed once when it starts."""

from __future__ import annotations

import getpass
import socket

import streamlit as st


@st.cache_resource(show_spinner=False)
def say_how_to_reach() -> None:
    """Print the tunnel command; a server that listens on this machine only cannot be reached otherwise."""
    port = st.get_option("server.port")
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "user"
    print(
        f"\nDynat listens on {st.get_option('server.address') or 'all addresses'}, port {port}. From another machine:\n"
        f"  ssh -L {port}:localhost:{port} {user}@{socket.gethostname()}\n"
        f"then open http://localhost:{port} there.\n",
        flush=True,
    )
