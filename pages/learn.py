"""Learn: what the attack does, what FOSC measures and why Dynamic training exists, on two pixels, in the browser."""

from __future__ import annotations

from urllib.parse import parse_qsl

import streamlit as st

from ui.frame import exists, page, teaching
from ui.playground import playground

with page("Learn", "What is FOSC? Drag the point and watch an attack use up its slope."):
    way = playground("learn", teach=teaching())
    if way is not None and way.page != "learn" and exists(f"pages/{way.page}.py"):
        keep = {"teach": "1"} if teaching() else {}
        st.switch_page(f"pages/{way.page}.py", query_params={**dict(parse_qsl(way.query)), **keep})
