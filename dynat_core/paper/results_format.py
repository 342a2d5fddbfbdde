"""What a results file of `reproduce` has to hold to be shown, part by part: names, lengths, and counts that can be."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from dynat_core.paper.paper_runs import DATA, MOST_SEEDS, ROW_WORDS, ROWS


def _share(pair: list[int]) -> list[int]:
    if not 0 <= pair[0] <= pair[1] or pair[1] < 1:
        raise ValueError("right of none, or more right than there are")
    return pair


def _rising(values: list[float]) -> list[float]:
    if any(b < a for a, b in zip(values, values[1:], strict=False)):
        raise ValueError("not in rising order")
    return values


Finite = Annotated[float, Field(allow_inf_nan=False)]
Size = Annotated[float, Field(allow_inf_nan=False, ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Whole = Annotated[int, Field(ge=1, le=10**9)]
Right = Annotated[list[int], Field(min_length=2, max_length=2), AfterValidator(_share)]  # [images right, images]
Seeds = Annotated[list[Right], Field(min_length=1)]
Quantiles = Annotated[list[Size], Field(min_length=2), AfterValidator(_rising)]
Form = Literal["paper", "box"]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Named(_Part):
    name: str


class _Threat(_Part):
    eps: Size


class _Config(_Part):
    data: _Named
    model: _Named
    threat: _Threat


class _Run(_Part):
    id: str
    row: str
    seed: Count
    best_epoch: Count | None
    gradients: Size | None
    device: str | None
    device_name: str | None
    versions: dict[str, str | None] | None
    commit: str | None
    config: _Config


class _Result(_Part):
    """What every part has."""

    format: int
    target: str
    data: Literal[DATA]  # type: ignore[valid-type]
    scale: Annotated[float, Field(gt=0, le=1)]
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)]
    epochs: Whole
    full_epochs: Whole
    train_images: Whole
    n: Whole
    eps: Size
    reduced: str | None
    chosen: str
    runs: Annotated[list[_Run], Field(min_length=1)]


class _WhiteBox(_Result):
    part: Literal["table1", "table3"]
    rows: Annotated[dict[str, dict[str, Seeds]], Field(min_length=1)]
    order: list[str]


class _BlackBox(_Result):
    part: Literal["table2"]
    rows: Annotated[dict[str, dict[str, Seeds]], Field(min_length=1)]
    order: list[str]
    surrogate: str


class _Gain(_Part):
    mean: Finite
    low: Finite | None
    high: Finite | None
    seeds: Whole

    @model_validator(mode="after")
    def _both_ends(self) -> _Gain:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval of one end")
        return self


class _Answer(_Gain):
    question: str
    before: str
    after: str


class _Ablation(_Result):
    part: Literal["ablation"]
    rows: Annotated[dict[str, dict[str, Seeds]], Field(min_length=1)]
    order: list[str]
    gradients: dict[str, list[Size | None]]
    answers: list[_Answer]

    @model_validator(mode="after")
    def _each_with_its_cost_and_columns(self) -> _Ablation:
        if self.rows.keys() - self.gradients.keys():
            raise ValueError("a training without its gradients")
        if any({"clean", "pgd-20", "cw-30", "worst"} - row.keys() for row in self.rows.values()):
            raise ValueError("a training without one of the attacks that are shown")
        return self


class _Bins(_Part):
    edges: Annotated[list[Finite], Field(min_length=2), AfterValidator(_rising)]
    n: list[Count]
    right: list[Count]
    loss: list[Size | None]
    rank_correlation: Annotated[float, Field(ge=-1, le=1)] | None

    @model_validator(mode="after")
    def _bin_by_bin(self) -> _Bins:
        if not len(self.edges) == len(self.n) == len(self.right) == len(self.loss):
            raise ValueError("bins of different numbers")
        for n, right, loss in zip(self.n, self.right, self.loss, strict=True):
            if right > n or (n > 0) != (loss is not None):
                raise ValueError("a bin whose counts cannot be")
        if self.rank_correlation is not None and sum(n >= 5 for n in self.n) < 3:
            raise ValueError("a rank correlation of fewer than three bins")
        return self


class _Figure1a(_Result):
    part: Literal["figure1a"]
    forms: dict[Form, _Bins]
    attack: str

    @model_validator(mode="after")
    def _both_forms(self) -> _Figure1a:
        return _with_both_forms(self, self.forms)


class _Image(_Part):
    index: Count
    label: Count
    loss: Annotated[list[Size], Field(min_length=1)]
    paper: Annotated[list[Finite], Field(min_length=1)]
    box: Annotated[list[Finite], Field(min_length=1)]


class _Figure1b(_Result):
    part: Literal["figure1b"]
    images: Annotated[list[_Image], Field(min_length=1)]
    attack: str


class _Setting(_Part):
    robust: Seeds
    loss: Quantiles
    paper: Quantiles
    box: Quantiles


class _Figure2(_Result):
    part: Literal["figure2"]
    settings: Annotated[dict[str, _Setting], Field(min_length=1)]
    shares: list[Share]
    attack: str

    @model_validator(mode="after")
    def _as_many_quantiles_as_shares(self) -> _Figure2:
        of = [values for one in self.settings.values() for values in (one.loss, one.paper, one.box)]
        if any(len(values) != len(self.shares) for values in of):
            raise ValueError("quantiles at other shares")
        return self


class _Row(_Part):
    paper: list[Quantiles]
    box: list[Quantiles]


class _Followed(_Row):
    robust: Annotated[list[Annotated[list[Share | None], Field(min_length=1)]], Field(min_length=1)]


class _Figure3(_Result):
    part: Literal["figure3"]
    shown_epochs: Annotated[list[Count], Field(min_length=1)]
    shares: list[Share]
    rows: dict[str, _Followed]
    switch: Count
    attack: str
    test_images: Whole

    @model_validator(mode="after")
    def _curve_by_curve(self) -> _Figure3:
        if self.rows.keys() != {*ROWS["figure3"]}:
            raise ValueError("other rows than Standard and FGSM then PGD")
        return _with_a_curve_for_each_epoch(self, self.rows, self.shown_epochs, self.shares)


class _Figure4(_Result):
    part: Literal["figure4"]
    shown_epochs: Annotated[list[Count], Field(min_length=1)]
    shares: list[Share]
    rows: Annotated[dict[str, _Row], Field(min_length=1)]
    separation: dict[Form, dict[str, Annotated[list[Share], Field(min_length=1)]]]
    gain: dict[Form, _Gain]
    stop_form: Form

    @model_validator(mode="after")
    def _curve_by_curve(self) -> _Figure4:
        named = {*self.rows, *(row for one in self.separation.values() for row in one)}
        if named - ROW_WORDS.keys():
            raise ValueError("a row that there is not")
        _with_both_forms(self, self.separation)
        _with_both_forms(self, self.gain)
        return _with_a_curve_for_each_epoch(self, self.rows, self.shown_epochs, self.shares)


def _with_both_forms(result: Any, forms: dict[Form, Any]) -> Any:
    if len(forms) != 2:
        raise ValueError("one form of FOSC is missing")
    return result


def _with_a_curve_for_each_epoch(result: Any, rows: dict[str, Any], epochs: list[int], shares: list[float]) -> Any:
    for row in rows.values():
        for curves in (row.paper, row.box):
            if len(curves) != len(epochs) or any(len(values) != len(shares) for values in curves):
                raise ValueError("curves of other epochs or shares")
    return result


_Any = Annotated[
    _WhiteBox | _BlackBox | _Ablation | _Figure1a | _Figure1b | _Figure2 | _Figure3 | _Figure4,
    Field(discriminator="part"),
]
_READ: TypeAdapter[Any] = TypeAdapter(_Any)


def first_wrong(content: dict[str, Any]) -> str | None:
    """The place of the first thing in a results file that cannot be shown, dotted; None where all can."""
    try:
        _READ.validate_python(content)
    except ValidationError as error:
        place = [str(part)[:40] for part in error.errors(include_url=False)[0]["loc"][1:]]
        return ".".join(place) or "the whole"
    return None
