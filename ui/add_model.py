"""A network of one's own, from a file of weights: the form. The file is read in a process of its own, never here."""

from __future__ import annotations

import streamlit as st

from dynat_core.config import NORM_WORDS, SHAPES
from dynat_core.errors import DynatError
from dynat_core.images import own_data
from ui import actions
from ui.access import limits, may_edit
from ui.words import plain

KINDS = ["safetensors", "pt", "pth", "ckpt", "bin", "tar"]
_FOUND_OUT = "the file tells"


def form() -> str | None:
    """Draw it; returns the id of the run that a file has become."""
    with st.form("add-model", border=False):
        words = "Weights: safetensors, or what torch.save wrote"
        file = st.file_uploader(words, type=KINDS, max_upload_size=limits().upload_mb)
        left, right = st.columns(2)
        data = left.selectbox("images it was made for", [_FOUND_OUT, *SHAPES, *own_data.names()])
        eps = right.text_input("eps, pixels", placeholder="usual for these images")
        norm = left.selectbox("norm", list(NORM_WORDS), format_func=lambda v: NORM_WORDS[v])
        title = right.text_input("name", max_chars=120)
        sent = st.form_submit_button("Add it", type="primary", disabled=not may_edit())
    st.caption(
        "Weights only: a pickle that holds code is refused, and so are TorchScript and torch.export, which are "
        "programs. A program on this machine is taken by `python -m dynat_core model add FILE`; "
        "images of your own by `python -m dynat_core data add FILE --name NAME`."
    )
    if not sent:
        return None
    if file is None:
        st.error("No file was chosen; choose one first.")
        return None
    said = {"--data": "" if data == _FOUND_OUT else data, "--eps": eps.strip(), "--norm": norm, "--name": title.strip()}
    with st.spinner("Reading the file and trying it on images"):
        return brought(file.name, file.getvalue(), {key: value for key, value in said.items() if value})


def brought(name: str, content: bytes, said: dict[str, str]) -> str | None:
    """Hand an uploaded file over; says what was wrong with it, or keeps what was found, and returns the run's id."""
    try:
        id, found = actions.add_model(name, content, said)
    except DynatError as error:
        st.error(plain(error))
        return None
    st.session_state["added-model"] = id, found
    return id
