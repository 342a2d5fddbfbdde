"""Who is signed in, what they may do, and the pages that stand before all others where sign-in is set up."""

from __future__ import annotations

import importlib.util
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st

from dynat_core.access import (
    LOCAL_NAMES,
    Access,
    Limits,
    Role,
    exposed,
    exposure_words,
    guarded,
    is_local,
    read_files,
    secret_files,
)
from dynat_core.errors import AccessError
from ui.words import plain

ROOT = Path(__file__).resolve().parent.parent
VIEWER = "You may look here, not change anything: ask one of the editors."
_UNKNOWN = "Nobody is signed in; reload the page and sign in first."
_NO_AUTHLIB = "Signing in needs a package that is not installed: `pip install -r requirements-signin.txt`."


def access() -> Access:
    """The rules as they are now; read anew each time, so that whoever is taken off a list is off it at once.

    Raises ConfigError where they cannot be read.
    """
    files = st.get_option("secrets.files") or secret_files([Path.cwd(), ROOT])
    found = read_files(file for file in files if str(file).endswith(".toml"))
    if not found.sign_in and "is_logged_in" in st.user:  # Streamlit knows a way to sign in from elsewhere
        raise AccessError("Sign-in is set up outside secrets.toml; put [auth] and [dynat] into that file.")
    return found


def role() -> Role:
    """What whoever looks at this page may do. Raises ConfigError."""
    return access().role(st.user.to_dict())


def person() -> str:
    """The address of whoever is signed in, "" where nobody signs in."""
    return str(st.user.to_dict().get("email") or "").casefold() if access().sign_in else ""


def limits() -> Limits:
    """What one person may ask for. Raises ConfigError."""
    return access().limits


def may_edit() -> bool:
    """Whether buttons that change something are alive. What they do asks again: see `actions`."""
    return role() == "editor"


def refuse_viewers() -> None:
    """Raises AccessError unless whoever asks is an editor."""
    found = role()
    if found != "editor":
        raise AccessError(VIEWER if found == "viewer" else _UNKNOWN)


def refuse_unknown() -> None:
    """Raises AccessError for whoever may not even look."""
    if role() not in ("editor", "viewer"):
        raise AccessError(_UNKNOWN)


def why_not(more: str | None = None) -> str | None:
    """The hint of a button that changes something: why it is dead for a viewer, else `more`."""
    return more if may_edit() else VIEWER


# ------------------------------------------------------------------------------------------- before the page itself


def door() -> None:
    """Let in who may look; the page ends here for everybody else."""
    _refuse_borrowed_names()
    found = role()
    if found in ("editor", "viewer"):
        return
    with st.container(key="door", width=560):
        st.html('<h3 class="dynat-door">Dynat</h3>')
        if found == "unknown":
            _sign_in()
        else:
            _stranger()
    st.stop()


def _sign_in() -> None:
    st.markdown("Sign in to look at the runs of this machine.")
    if importlib.util.find_spec("authlib") is None:
        st.error(_NO_AUTHLIB)
        return
    for name in access().providers or ("",):
        words = plain(f"Sign in with {name}") if name else "Sign in"
        if st.button(words, type="primary", key=f"sign-in-{name}"):
            st.login(name or None)


def _stranger() -> None:
    claims = st.user.to_dict()
    email = str(claims.get("email") or "an account without an address")
    said = f"You are signed in as {email}, and this account may not look at anything here"
    st.markdown(plain(f"{said}: ask whoever runs this server."))
    if claims.get("email_verified") is not True and not access().unverified:
        st.caption("Your provider does not say that it has verified this address.")
    st.button("Sign out", on_click=st.logout, key="sign-out")


def _refuse_borrowed_names() -> None:
    """A server for one machine answers under that machine's own names alone: a web site somewhere may let its name
    lead to 127.0.0.1, and a browser would then take our pages for its own."""
    if not is_local(st.get_option("server.address")) or guarded() or st.get_option("server.allowedHosts"):
        return
    host = st.context.headers.get("Host")
    if host is None:  # no server at all: a test
        return
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if not is_local(name) and not name.endswith(tuple(f".{local}" for local in LOCAL_NAMES)):
        shown = host if host.isprintable() else ascii(host)
        st.error(
            plain(f"This Dynat is for one machine and was asked for as {shown[:80]}: open it as localhost, or see ")
            + "docs/remote.md."
        )
        st.stop()


def warn_if_exposed() -> None:
    """A line on every screen of a server that strangers can reach, and one in the terminal."""
    address = st.get_option("server.address")
    if exposed(address, access()):
        st.html(f'<p class="dynat-exposed" role="alert">{escape(exposure_words(address))}</p>')
        _say_in_the_terminal(exposure_words(address))


@st.cache_resource(show_spinner=False)
def _say_in_the_terminal(words: str) -> None:
    """Once for each start of the server."""
    print(f"\nWARNING: {words}\n", flush=True)


def account() -> None:
    """Who is signed in, and the way out; nothing where nobody signs in."""
    if not access().sign_in:
        return
    with st.popover(plain(person()), type="tertiary"):
        st.caption("You may change everything here." if may_edit() else VIEWER)
        st.button("Sign out", on_click=st.logout, key="sign-out")
