"""Pages to print and to save: a guide in Markdown as one printable HTML page, and the playground as one HTML file."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path

_PRINT = """
body { font: 12pt/1.45 "Source Sans 3", "Segoe UI", system-ui, sans-serif; color: #182233; background: #fff; max-width: 46em; margin: 2em auto; padding: 0 1.5em; }
h1 { font-size: 1.7em; margin: 0 0 0.4em; } h2 { font-size: 1.2em; margin: 1.3em 0 0.3em; break-after: avoid; }
table { border-collapse: collapse; width: 100%; margin: 0.6em 0; } th, td { border: 1px solid #98a2b3; padding: 0.3em 0.6em; text-align: left; vertical-align: top; }
img { max-width: 100%; } ul { list-style: none; padding-left: 1em; } ul li { margin: 0.35em 0; } li, tr, figure { break-inside: avoid; } hr { border: 0; break-after: page; }
code { font-family: ui-monospace, monospace; font-size: 0.92em; }
p.print { text-align: right; } @media print { p.print { display: none; } body { margin: 0; max-width: none; } } @page { margin: 18mm; }
"""  # noqa: E501

_LIGHT = {
    "text-color": "#182233",
    "background-color": "#ffffff",
    "secondary-background-color": "#f3f5f8",
    "border-color": "#d8dee7",
    "primary-color": "#24324a",
    "link-color": "#24507e",
    "red-text-color": "#a3261e",
}
_DARK = {
    "text-color": "#e4e9f0",
    "background-color": "#12161c",
    "secondary-background-color": "#1c222b",
    "border-color": "#3a4452",
    "primary-color": "#c9d6ea",
    "link-color": "#9cc3ee",
    "red-text-color": "#ff9d94",
}


def sheet(path: Path) -> str:
    """A guide as a printable page. Known Markdown: headings, paragraphs, lists, tables, images, rules (a new page when
    printed), **bold**, *emphasis*, `code`; links are printed as their words."""
    text = path.read_text(encoding="utf-8")
    blocks = [_block(block, path.parent) for block in re.split(r"\n\s*\n", text.strip())]
    title = text.partition("\n")[0].lstrip("# ")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_PRINT}</style>"
        f'<p class="print"><button onclick="print()">Print</button></p>{"".join(blocks)}</html>'
    )


def _block(block: str, folder: Path) -> str:
    lines = block.splitlines()
    if found := re.match(r"(#{1,4}) (.*)", block):
        level = len(found[1])
        return f"<h{level}>{_inline(found[2], folder)}</h{level}>"
    if re.fullmatch(r"-{3,}", block.strip()):
        return "<hr>"
    if lines[0].startswith("|"):
        return _table(lines, folder)
    if found := re.match(r"(-|\d+\.) ", block):
        tag = "ul" if found[1] == "-" else "ol"
        items = re.split(r"(?m)^(?:-|\d+\.) ", block)[1:]
        start = f' start="{found[1][:-1]}"' if tag == "ol" else ""
        return f"<{tag}{start}>{''.join(f'<li>{_inline(item, folder)}</li>' for item in items)}</{tag}>"
    return f"<p>{_inline(block, folder)}</p>"


def _table(lines: list[str], folder: Path) -> str:
    rows = [[_inline(cell.strip(), folder) for cell in line.strip().strip("|").split("|")] for line in lines]
    head = "".join(f"<th>{cell}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows[2:])
    return f"<table><tr>{head}</tr>{body}</table>"


def _inline(text: str, folder: Path) -> str:
    text = html.escape(text.strip(), quote=False)
    text = re.sub(r"!\[([^\]]*)\]\(([^)]+)\)", lambda m: _picture(m[1], folder / m[2]), text)
    text = re.sub(r"\[([^\]]*)\]\([^)]+\)", r"\1", text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text, flags=re.S)
    text = re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])", r"<i>\1</i>", text)
    return text.replace("\n", " ")


def _picture(words: str, path: Path) -> str:
    coded = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{words}" src="data:image/svg+xml;base64,{coded}">'


def one_file(body: str, css: str, script: str, sheets: Mapping[str, str]) -> str:
    """The playground as one HTML file: light or dark like the system or as chosen, links to other screens as words.

    Its `data-settings=""` takes the saved settings, a query string.
    """
    root = "--st-font: 'Source Sans 3', 'Segoe UI', system-ui, sans-serif;"
    light, dark = (" ".join(f"--st-{name}: {value};" for name, value in theme.items()) for theme in (_LIGHT, _DARK))
    ground = "body { background: var(--st-background-color); margin: 0; padding: 14px 22px; } h1 { font: 600 19px var(--st-font); color: var(--st-text-color); margin: 0 0 10px; }"  # noqa: E501
    data = json.dumps(dict(sheets), ensure_ascii=False).replace("</", "<\\/")
    code = script.replace("export default function mount", "function mount").replace("</script", "<\\/script")
    return f"""<!doctype html>
<html lang="en" data-settings=""><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Dynat: what is FOSC?</title>
<style>:root {{ {root} {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
:root[data-theme=light] {{ {light} }} :root[data-theme=dark] {{ {dark} }}
{ground}
{css}</style></head><body><h1>What is FOSC?</h1>
{body}
<script type="module">
{code}
mount({{data: {{...{data}, settings: document.documentElement.dataset.settings}}, parentElement: document.body}});
</script></body></html>
"""
