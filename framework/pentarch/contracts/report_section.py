"""The report-section contract: plug-ins return data, the framework draws it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from pentarch.model import Model
from pentarch.results import StudyResult, Verdict


class ScatterBlock(Model):
    """Points, one per design, whose axes the reader can choose."""

    kind: Literal["scatter"] = "scatter"
    """Discriminator."""
    title: str = ""
    """Heading of the block."""
    note: str = ""
    """A sentence under the plot: what was left out, what the lines mean."""
    labels: tuple[str, ...]
    """Name of each point."""
    columns: dict[str, tuple[float | None, ...]]
    """Figures by name, one value per point."""
    x: str
    """Column shown first on the horizontal axis."""
    y: str
    """Column shown first on the vertical axis."""
    log_x: bool = False
    """Whether the horizontal axis starts logarithmic."""
    log_y: bool = False
    """Whether the vertical axis starts logarithmic."""
    groups: tuple[str, ...]
    """Class of each point, shown by color."""
    group_order: tuple[str, ...] = ()
    """The classes from worst to best; classes it lacks follow in order of appearance."""
    names: dict[str, str] = Field(default_factory=dict)
    """Shown name of a column; by default its key."""
    units: dict[str, str] = Field(default_factory=dict)
    """Unit of a column; `%` shows a fraction as a percentage."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Value of a column at which a line is drawn."""
    texts: dict[str, tuple[str | None, ...]] = Field(default_factory=dict)
    """Further text by name, one per point, shown when a point is chosen."""
    verdicts: dict[str, tuple[str | None, ...]] = Field(default_factory=dict)
    """Verdicts by target, one per point, shown when a point is chosen."""
    headings: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Columns and texts under each heading, in the order in which they are offered."""
    marks: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Points to point out, by what they are, for example `best`; the last is chosen at first."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        count = len(self.labels)
        _same_length("groups", len(self.groups), count)
        for field, group in (
            ("columns", self.columns), ("texts", self.texts), ("verdicts", self.verdicts)
        ):  # fmt: skip
            for name, values in group.items():
                _same_length(f"{field}[{name!r}]", len(values), count)
        for axis in (self.x, self.y):
            if axis not in self.columns:
                raise ValueError(f"one of the columns {sorted(self.columns)}, not {axis!r}")
        listed = {name for names in self.headings.values() for name in names}
        unknown = sorted(listed - set(self.columns) - set(self.texts))
        if unknown:
            raise ValueError(f"headings of columns or texts that exist, not {unknown}")
        if any(not 0 <= index < count for group in self.marks.values() for index in group):
            raise ValueError(f"marks that are indices of the {count} points")
        return self


class Line(Model):
    """A line in a plot."""

    name: str
    """What it is, written beside its start."""
    x: tuple[float, ...]
    """Horizontal positions of its corners."""
    y: tuple[float, ...]
    """Vertical positions of its corners."""
    dashed: bool = False
    """Whether it is of less weight than the others."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _same_length("y", len(self.y), len(self.x))
        return self


class LogPlotBlock(Model):
    """Points and lines on two fixed logarithmic axes, for example a roofline."""

    kind: Literal["log_plot"] = "log_plot"
    """Discriminator."""
    title: str = ""
    """Heading of the block."""
    note: str = ""
    """A sentence under the plot: what was left out, what the lines mean."""
    x_title: str
    """Title of the horizontal axis."""
    y_title: str
    """Title of the vertical axis."""
    x_unit: str = ""
    """Unit on the horizontal axis."""
    y_unit: str = ""
    """Unit on the vertical axis."""
    labels: tuple[str, ...]
    """Name of each point."""
    x: tuple[PositiveFloat, ...]
    """Horizontal position of each point."""
    y: tuple[PositiveFloat, ...]
    """Vertical position of each point."""
    weights: tuple[NonNegativeFloat, ...]
    """Weight of each point from 0 to 1, shown by its area."""
    groups: tuple[str, ...]
    """Class of each point, shown by color and symbol."""
    texts: tuple[str, ...]
    """Further text of each point, shown when it is pointed at."""
    lines: tuple[Line, ...] = ()
    """Lines under the points."""
    callouts: dict[str, tuple[PositiveFloat, PositiveFloat]] = Field(default_factory=dict)
    """Positions that are pointed out, by what is written there."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field in ("x", "y", "weights", "groups", "texts"):
            _same_length(field, len(getattr(self, field)), len(self.labels))
        return self


class BarBlock(Model):
    """Stacked bars: parts of a total for several things."""

    kind: Literal["bar"] = "bar"
    """Discriminator."""
    title: str = ""
    """Heading of the block."""
    note: str = ""
    """A sentence under the plot: what is unknown or left out."""
    unit: str
    """Unit of the values; `%` shows fractions as percentages."""
    bars: tuple[str, ...]
    """Name of each bar."""
    parts: dict[str, tuple[float, ...]]
    """Values by part, one per bar."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, values in self.parts.items():
            _same_length(f"parts[{name!r}]", len(values), len(self.bars))
        return self


class TableBlock(Model):
    """A table of text."""

    kind: Literal["table"] = "table"
    """Discriminator."""
    title: str = ""
    """Heading of the block."""
    note: str = ""
    """A sentence under the table."""
    header: tuple[str, ...]
    """Column titles."""
    rows: tuple[tuple[str, ...], ...]
    """Cells."""
    numeric: tuple[int, ...] = ()
    """Columns that hold numbers and are set flush right."""
    verdicts: tuple[int, ...] = ()
    """Columns that hold verdicts and are colored by them."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for index, row in enumerate(self.rows):
            _same_length(f"rows[{index}]", len(row), len(self.header))
        return self


class VerdictsBlock(Model):
    """The verdicts on one design, drawn as cards."""

    kind: Literal["verdicts"] = "verdicts"
    """Discriminator."""
    title: str = ""
    """Heading of the block: the design."""
    verdicts: tuple[Verdict, ...]
    """One card each, in this order."""


class TextBlock(Model):
    """A paragraph."""

    kind: Literal["text"] = "text"
    """Discriminator."""
    text: str
    """Plain text."""
    is_lead: bool = False
    """Whether it is the sentence that a reader must not miss."""


def _same_length(where: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{expected} values in {where}, not {found}")


Block = Annotated[
    ScatterBlock | LogPlotBlock | BarBlock | TableBlock | VerdictsBlock | TextBlock,
    Field(discriminator="kind"),
]
"""Something that the framework knows how to draw."""


class ReportSection(ABC):
    """One section of a report."""

    name: ClassVar[str]
    """Unique among sections."""
    title: ClassVar[str]
    """Heading."""
    order: ClassVar[int] = 100
    """Position; lower comes first."""

    @abstractmethod
    def blocks(self, result: StudyResult) -> Sequence[Block]:
        """Return what the section shows, in order; empty leaves the section out."""
