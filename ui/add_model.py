"""A network of one's own, from a file of weights: the form. The file is read in a process of its own, never here."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import streamlit as st

from dynat_core.config import NORM_WORDS, SHAPES
from dynat_core.images import own_data
from dynat_core.store.jobs import child_environment
from ui.store import look_again, store
from ui.words import plain

KINDS = ["safetensors", "pt", "pth", "ckpt", "bin", "tar"]
PATIENCE = 240.0  # seconds for reading the file and trying it on images
_FOUND_OUT = "the file tells"


def form() -> str | None:
    """Draw it; returns the id of the run that a file has become."""
    with st.form("add-model", border=False):
        file = st.file_uploader("Weights: safetensors, or what torch.save wrote", type=KINDS)
        left, right = st.columns(2)
        data = left.selectbox("images it was made for", [_FOUND_OUT, *SHAPES, *own_data.names()])
        eps = right.text_input("eps, pixels", placeholder="usual for these images")
        norm = left.selectbox("norm", list(NORM_WORDS), format_func=lambda v: NORM_WORDS[v])
        title = right.text_input("name", max_chars=120)
        sent = st.form_submit_button("Add it", type="primary")
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
    """Hand an uploaded file to the command that reads it; says what it said, and returns the run's id."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", Path(name).name)[-80:].lstrip(".") or "weights"
    with tempfile.TemporaryDirectory(prefix="dynat-upload-") as folder:
        path = Path(folder) / safe
        path.write_bytes(content)
        options = [f"{key}={value}" for key, value in said.items()]
        command = [sys.executable, "-m", "dynat_core", "model", "add", str(path), "--weights-only", *options]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE,
                env=child_environment(store().folder.absolute()), stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            st.error("Reading the file took too long; add it with `python -m dynat_core model add FILE`.")
            return None
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode != 0:
        st.error(plain(lines[-1] if lines else "The file could not be read."))
        return None
    st.session_state["added-model"] = [line.strip() for line in lines[:-1]]
    look_again()
    return Path(lines[-1]).name
