"""What stands still on a screen: headings, tables, and pictures without a cursor."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Literal

import streamlit as st

from dynat_core.views import View
from dynat_core.views.described import described
from dynat_core.views.figures import literal
from dynat_core.views.still import painted

_ZOOMING = {"modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}
_STILL = {"modeBarButtons": [["toImage"]]}
_FONT = '"Source Sans", sans-serif'  # the page's own


def head(words: str) -> None:
    """The heading of a part of the screen."""
    st.html(f'<h4 class="dynat-head">{escape(words)}</h4>')


def table(names: Sequence[str], rows: Sequence[Sequence[str]], markup: bool = False) -> None:
    """A table of plain text; markup: of cells that are HTML already."""
    top = "".join(f"<th>{escape(name)}</th>" for name in names)
    cells = [[cell if markup else escape(cell) for cell in row] for row in rows]
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    drawn = f'<table class="dynat-table"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    st.html(f'<div class="dynat-wide">{drawn}</div>')


def fitted(rows: int, height: int, row_height: int) -> int | Literal["content"]:
    """The height of a table of `rows`: as tall as they are, and never more than `height` pixels. A taller one would be
    filled up with empty rows."""
    return "content" if (rows + 1) * row_height < height - row_height else height


def picture(view: View, key: str, zooms: bool = False) -> None:
    """A picture in the theme of the page, under its title and with words for those who cannot see it; its own button
    saves it.

    zooms: it can be zoomed into, and is saved as SVG instead of PNG.
    """
    head(view.title)
    dark = getattr(st.context.theme, "type", "light") == "dark"
    figure = painted(literal(dict(view.fig or {})), view.colors, dark)
    figure["layout"] |= {"height": view.height, "autosize": True}
    figure["layout"]["font"] = figure["layout"].get("font", {}) | {"family": _FONT}
    save = {"filename": view.id, "format": "svg"} if zooms else {"filename": view.id, "format": "png", "scale": 3}
    config = {"displaylogo": False, "toImageButtonOptions": save, **(_ZOOMING if zooms else _STILL)}
    st.plotly_chart(figure, theme=None, key=key, config=config, alt=described(view))
