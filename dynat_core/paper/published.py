"""The published numbers of Wang et al. 2019, with their table and column; this file alone holds them.

Accuracy in percent, as the authors printed it: from the slides of "On the Convergence and Robustness of Adversarial
Training" (ICML 2019). Single runs: seeds, checkpoints and error bars are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "Wang, Ma, Bailey, Yi, Zhou, Gu: On the Convergence and Robustness of Adversarial Training, ICML 2019"

COLUMNS = {  # column -> (the words of its head, the rung of the ladder that measures the same)
    "clean": ("clean", "clean"),
    "fgsm": ("FGSM", "fgsm"),
    "pgd-10": ("PGD-10", "pgd-10"),
    "pgd-20": ("PGD-20", "pgd-20"),
    "cw": ("C&W", "cw-30"),
}


@dataclass(frozen=True)
class Table:
    """A published table. rows: row -> accuracy in percent under each of `columns`, with the digits that were printed;
    names: rows called otherwise there than here."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    names: dict[str, str]

    def text(self, row: str, column: str) -> str | None:
        """Accuracy in percent as it was printed; None for what is not in the table."""
        if row not in self.rows or column not in self.columns:
            return None
        return self.rows[row][self.columns.index(column)]

    def value(self, row: str, column: str) -> float | None:
        """The same as a number."""
        text = self.text(row, column)
        return None if text is None else float(text)


_ALL = ("clean", "fgsm", "pgd-10", "pgd-20", "cw")
TABLES: dict[str, Table] = {
    "table1-mnist": Table(
        "White-box robustness, MNIST, eps 0.3",
        _ALL,
        {
            "unsecured": ("99.20", "14.04", "0.0", "0.0", "0.0"),
            "standard": ("97.61", "94.71", "91.21", "90.62", "91.03"),
            "curriculum": ("98.62", "95.51", "91.24", "90.65", "91.12"),
            "dynamic": ("97.96", "95.34", "91.63", "91.27", "91.47"),
        },
        {},
    ),
    "table1-cifar10": Table(
        "White-box robustness, CIFAR-10, eps 8/255",
        _ALL,
        {
            "unsecured": ("89.39", "2.2", "0.0", "0.0", "0.0"),
            "standard": ("66.31", "48.65", "44.39", "40.02", "36.33"),
            "curriculum": ("72.40", "50.47", "45.54", "40.12", "35.77"),
            "dynamic": ("72.17", "52.81", "48.06", "42.40", "37.26"),
        },
        {},
    ),
    "table2-mnist": Table(
        "Black-box robustness, MNIST, eps 0.3",
        _ALL[1:],
        {
            "standard": ("96.12", "95.73", "95.73", "97.20"),
            "curriculum": ("96.59", "95.87", "96.09", "97.52"),
            "dynamic": ("97.60", "97.01", "96.97", "98.36"),
        },
        {},
    ),
    "table2-cifar10": Table(
        "Black-box robustness, CIFAR-10, eps 8/255",
        _ALL[1:],
        {
            "standard": ("65.65", "65.80", "65.60", "66.12"),
            "curriculum": ("71.25", "71.44", "71.13", "71.94"),
            "dynamic": ("71.95", "72.15", "72.02", "72.85"),
        },
        {},
    ),
    "table3-cifar10": Table(
        "White-box robustness of WideResNet, CIFAR-10, eps 8/255",
        ("clean", "fgsm", "pgd-20", "cw"),
        {
            "standard": ("87.3", "56.1", "45.8", "46.8"),
            "curriculum": ("77.43", "57.17", "46.06", "42.28"),
            "dynamic": ("85.03", "63.53", "48.70", "47.27"),
        },
        {"standard": "Madry's"},
    ),
}

CAUTIONS = (
    "Single runs: no seeds and no error bars were published, and it is unknown which checkpoint was measured.",
    "The gain shrinks under the margin loss: 0.4 to 0.9 points under C&W.",
    "In the black-box table C&W leaves Dynamic above its own clean accuracy, so the transferred attack is nearly "
    "harmless.",
    "From PGD-10 to PGD-20 the CIFAR-10 networks lose 4.4 to 5.7 points, more than the number of steps alone should "
    "cost.",
    "AutoAttack, which a claim needs today, was not published for this paper.",
)
