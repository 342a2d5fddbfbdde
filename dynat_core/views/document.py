"""A document of one file: sections of HTML that follow the reader's theme, print well and need no network.

Whatever is put into it is escaped here; `Html` marks what is markup already.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from dynat_core.views.base import Series
from dynat_core.views.svg import DASH

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#182233, #e4e9f0); --muted: light-dark(#5a6270, #a7aeba);
  --line: light-dark(#d8dee7, #3a4452); --ground: light-dark(#ffffff, #12161c); --soft: light-dark(#f3f5f8, #1c222b); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 32px 60px; max-width: 1180px; font: 15px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--ground); }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 30px 0 8px; }
p { margin: 6px 0; max-width: 86ch; } .facts { color: var(--muted); font-size: 13.5px; }
.said { border-left: 3px solid var(--muted); padding: 6px 12px; background: var(--soft); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; width: 100%; }
th { text-align: left; color: var(--muted); font-weight: 600; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(380px, 1fr)); gap: 14px; }
figure { margin: 0; padding: 10px 12px; border: 1px solid var(--line); border-radius: 8px; break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { font-weight: 600; font-size: 14px; margin-bottom: 4px; }
.swatch { width: 26px; height: 3px; margin-right: 7px; vertical-align: middle; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 6px 0 10px; }
img.pixels { image-rendering: pixelated; width: 96px; border: 1px solid var(--line); border-radius: 4px;
  display: block; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }
a { color: light-dark(#24507e, #9cc3ee); }
@media print { body { padding: 0; max-width: none; } figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  a[download] { display: none; } }
"""


class Html(str):
    """Text that is markup already."""


def text(value: object) -> str:
    """A value as it may stand in the document."""
    return value if isinstance(value, Html) else escape(str(value))


def document(title: str, subtitle: str, sections: Sequence[tuple[str, Sequence[Html]]]) -> bytes:
    """The whole file. sections: (heading, parts); a section without parts is left out."""
    body = "".join(
        f"<section><h2>{text(heading)}</h2>{''.join(parts)}</section>" for heading, parts in sections if parts
    )
    # No script and nothing from elsewhere: the file says so itself, and browsers hold it to that.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><header><h1>{text(title)}</h1><p class="facts">{text(subtitle)}</p></header><main>{body}</main>'
        "</body></html>\n"
    ).encode()


def paragraph(words: object, kind: str = "") -> Html:
    """A paragraph; kind: "", "facts" or "said"."""
    return Html(f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>")


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> Html:
    """A table; the first cell of a row is its name."""
    names = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = "".join(f"<tr>{''.join(f'<td{_kind(cell)}>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return Html(f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>')


def _kind(cell: object) -> str:
    return ' class="number"' if str(cell)[:1].isdigit() and len(str(cell)) < 40 else ""


def figures(drawn: Sequence[tuple[str, str]]) -> Html:
    """(title, SVG) side by side as the width allows."""
    boxes = "".join(f"<figure><figcaption>{text(title)}</figcaption>{svg}</figure>" for title, svg in drawn)
    return Html(f'<div class="figures">{boxes}</div>')


def swatch(series: Series, name: object = "") -> Html:
    """A short line in a series' colour and dash, and its name."""
    light, dark = series.color
    drawn = f'stroke-width="3" stroke-dasharray="{DASH.get(series.dash, "none")}"'
    line = f'<path d="M0 1.5H26" {drawn} style="stroke:light-dark({light},{dark})"/>'
    return Html(f'<svg class="swatch" viewBox="0 0 26 3" aria-hidden="true">{line}</svg>{text(name)}')


def legend(series: Sequence[Series]) -> Html:
    """Every series by name."""
    return Html(f'<p class="legend">{"".join(f"<span>{swatch(one, one.name)}</span>" for one in series)}</p>')


def pixels(address: str, words: str) -> Html:
    """A small picture from a data address, with words for those who cannot see it."""
    return Html(f'<img class="pixels" src="{text(address)}" alt="{text(words)}">')


def command(line: str) -> Html:
    """A command line as it is typed."""
    return Html(f"<pre>{text(line)}</pre>")


def attached(words: str, name: str, content: bytes, kind: str) -> Html:
    """A link that saves `content`, which the document carries along."""
    address = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return Html(f'<p><a download="{text(name)}" href="{address}">{text(words)}</a></p>')
