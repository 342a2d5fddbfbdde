r"""A robust accuracy as a row of a LaTeX table, with everything that must stand beside it.

The rows fit a table of seven columns (package booktabs): model, clean, robust, attack, threat, images, verdict.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from dynat_core.config import describe_eps
from dynat_core.statistics import wilson

COLUMNS = ("Model", r"Clean (\%)", r"Robust (\%)", "Attack", "Threat", "$n$", "Attack checked?")
_NORMS = {"linf": r"$\ell_\infty$", "l2": r"$\ell_2$"}
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "−": "$-$", "–": "--", "—": "---", "…": r"\dots{}",
    "<": "$<$", ">": "$>$", "|": r"\textbar{}", '"': "''", "·": r"$\cdot$", "×": r"$\times$",
    "‘": "`", "’": "'", "“": "``", "”": "''",
}  # fmt: skip
_ACCENTS = "\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327"
_LETTERS = "øØæÆœŒßłŁåÅ"


@dataclass(frozen=True)
class Outcome:
    """What one network reached: images it gets right, of n, clean and under the attack in words.

    source: the run or evaluation. seed: of training, None where it is not known.
    """

    title: str
    source: str
    which: str
    clean: int
    robust: int
    n: int
    attack: str
    norm: str
    eps: float
    verdict: str
    seed: int | None = None


def row(found: Outcome) -> str:
    """A comment that says what it is, and the row. Text is escaped."""
    seed = "" if found.seed is None else f", one training seed ({found.seed})"
    note = (
        f"Dynat, {found.source}, {found.which}{seed}: images right, 95 % Wilson intervals in brackets, "
        f"columns {', '.join(COLUMNS)}"
    )
    cells = (
        escaped(found.title),
        _share(found.clean, found.n),
        _share(found.robust, found.n),
        escaped(found.attack),
        f"{_NORMS[found.norm]}, $\\varepsilon$ = {describe_eps(found.eps)}",
        str(found.n),
        escaped(found.verdict),
    )
    # {} first: after a line's end LaTeX would take a title that begins with [ or * for an option of it
    return f"% {_one_line(note)}\n{{}}{' & '.join(cells)} \\\\\n"


def table(found: Sequence[Outcome]) -> str:
    r"""The rows in a whole table; needs \usepackage{booktabs}."""
    head = " & ".join(COLUMNS) + r" \\"
    rows = "".join(map(row, found))
    columns = r"lrrp{0.24\textwidth}p{0.14\textwidth}rp{0.16\textwidth}"
    return (
        f"% Needs \\usepackage{{booktabs}}.\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\n\\midrule\n{rows}"
        "\\bottomrule\n\\end{tabular}\n"
    )


def escaped(text: str) -> str:
    """Text as LaTeX prints it. Letters that plain LaTeX has no sign for become a question mark."""
    return "".join(_sign(character) for character in _one_line(text))


def _share(correct: int, n: int) -> str:
    low, high = wilson(correct, n)
    return f"{100 * correct / n:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", text)).split())


def _sign(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii() or character in _LETTERS:
        return character
    parts = unicodedata.normalize("NFD", character)
    known = len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS
    plain = unicodedata.normalize("NFKD", character)
    return character if known else plain if plain.isascii() and plain.isalnum() else "?"
