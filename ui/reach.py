"""How to reach this server from another machine, printed once when it starts."""

from __future__ import annotations

import getpass
import socket

import streamlit as st

from dynat_core.access import exposed, exposure_words
from dynat_core.errors import DynatError
from dynat_core.terminal import clean
from ui.access import access


@st.cache_resource(show_spinner=False)
def say_how_to_reach() -> None:
    """Print the tunnel command; a server that listens on this machine only cannot be reached otherwise."""
    port, address = st.get_option("server.port"), st.get_option("server.address")
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "user"
    print(
        f"\nDynat listens on {address or 'all addresses'}, port {port}. From another machine:\n"
        f"  ssh -L {port}:localhost:{port} {user}@{socket.gethostname()}\n"
        f"then open http://localhost:{port} there.\n",
        flush=True,
    )
    try:
        warned = exposed(address, access())
    except DynatError as error:  # every screen says it
        print(f"{clean(str(error))}\n", flush=True)
        return
    if warned:
        print(f"WARNING: {exposure_words(address)}\n", flush=True)
