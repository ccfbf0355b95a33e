"""The technology library: figures with unit, source and grade, and the record of their use."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any, Literal

from pentarch.errors import FieldError, MissingFigureError, UnknownNameError
from pentarch.hardware.technology.quantities import base_unit
from pentarch.model import Model, load

NODES = ("n28", "n16", "n10", "n7", "n5", "n4", "n4p", "n3e", "n2")
"""Logic processes of the library, oldest first."""


class Grade(StrEnum):
    """How good a figure is, best first."""

    PUB = "pub"
    MEAS = "meas"
    TOOL = "tool"
    DER = "der"
    EST = "est"
    ASM = "asm"

    @property
    def words(self) -> str:
        """The grade in words."""
        return _GRADE_WORDS[self]


_GRADE_WORDS = MappingProxyType({
    Grade.PUB: "published table or datasheet", Grade.MEAS: "third-party measurement",
    Grade.TOOL: "carried or computed by a public tool", Grade.DER: "derived from other figures",
    Grade.EST: "analyst or press estimate", Grade.ASM: "engineering assumption",
})  # fmt: skip


class Source(Model):
    """Where figures come from."""

    key: str
    """Short name that figures refer to."""
    cite: str
    """Citation text."""
    seen: Literal["full", "excerpt", "secondary", "recall"]
    """How it was checked: read in full, in part, quoted by another text, or not re-checked."""


class Figure(Model):
    """One figure of the library in the unit its source states."""

    path: str
    """Dotted path, for example `"memory.hbm3.device_io"`."""
    value: float | tuple[float, ...] | str
    """A number, the coefficients of a polynomial, or a formula in words."""
    unit: str
    """Unit as the source states it, or `"formula"`."""
    basis: str | None = None
    """What the figure is counted per or the condition it holds at, for example `"per stack"`."""
    source: str
    """Key of the source."""
    grade: Grade
    """How good the figure is."""
    range: tuple[float, float] | None = None
    """Lowest and highest value that sources state, in `unit`."""
    note: str | None = None
    """How the figure was derived, or what speaks against it."""
    year: int | None = None
    """Year that a price is of."""

    @property
    def base_value(self) -> float:
        """The value in base units: J per byte, W, mm2, USD, ...

        Raises:
            FieldError: The figure is no single number.
        """
        if not isinstance(self.value, float):
            raise FieldError(
                where="technology library",
                path=self.path,
                problem=f"holds {self.value!r}, which is no single number",
                expected="a path of a numeric figure; read this one with `figure`",
            )
        return self.value * base_unit(self.unit).factor

    @property
    def base_range(self) -> tuple[float, float] | None:
        """Lowest and highest stated value in base units; `None` when no spread is known."""
        if self.range is None:
            return None
        factor = base_unit(self.unit).factor
        return self.range[0] * factor, self.range[1] * factor


@dataclass(frozen=True, slots=True)
class Technology:
    """Figures by dotted path and sources by key; look-ups never change it."""

    figures: Mapping[str, Figure]
    """Every figure by its dotted path."""
    sources: Mapping[str, Source]
    """Every source by its key."""

    def figure(self, path: str) -> Figure:
        """Return the figure at a dotted path.

        Raises:
            UnknownNameError: There is none; the message names close paths.
        """
        found = self.figures.get(path)
        if found is None:
            siblings = self.paths(path.rpartition(".")[0]) or tuple(self.figures)
            raise UnknownNameError(
                kind="technology figure",
                name=path,
                known=siblings,
                hint="Paths are dotted, for example memory.hbm3.device_io.",
            )
        return found

    def si(self, path: str) -> float:
        """Return the value at `path` in base units, for example J per byte.

        Raises:
            UnknownNameError: There is no such figure.
            FieldError: The figure is no single number.
        """
        return self.figure(path).base_value

    def paths(self, prefix: str = "") -> tuple[str, ...]:
        """Return the paths below `prefix` in file order; all of them by default."""
        if not prefix:
            return tuple(self.figures)
        return tuple(path for path in self.figures if path.startswith(prefix + "."))

    def members(self, prefix: str) -> tuple[str, ...]:
        """Return the names directly below `prefix`, for example the memory types below `memory`."""
        start = len(prefix) + 1
        return tuple(dict.fromkeys(path[start:].split(".")[0] for path in self.paths(prefix)))

    def citation(self, path: str) -> str:
        """Return the citation of the source that the figure at `path` rests on."""
        return self.sources[self.figure(path).source].cite

    def with_figures(
        self, *figures: Figure, sources: Mapping[str, Source] | None = None
    ) -> "Technology":
        """Return a library in which `figures` replace or join the present ones.

        Args:
            figures: Figures; each unit must be known and each source exist.
            sources: Further sources by key.

        Raises:
            InputError: A unit is unknown.
            UnknownNameError: A source is unknown.
        """
        all_sources = {**self.sources, **(sources or {})}
        for figure in figures:
            _check(figure, all_sources)
        joined = {**self.figures, **{figure.path: figure for figure in figures}}
        return Technology(MappingProxyType(joined), MappingProxyType(all_sources))


_ASSUMED: ContextVar[Technology | None] = ContextVar("assumed technology", default=None)
"""The library that `assuming` put in the place of the packaged one."""


def technology() -> Technology:
    """Return the library in force: the packaged one, or the one of an enclosing `assuming`.

    Raises:
        FieldError: A packaged file is damaged.
    """
    assumed = _ASSUMED.get()
    return _packaged() if assumed is None else assumed


@contextmanager
def assuming(library: Technology) -> Iterator[Technology]:
    """Have `technology` return `library` while the block runs, in this thread only.

    Args:
        library: For example `technology().with_figures(...)`.
    """
    token = _ASSUMED.set(library)
    try:
        yield library
    finally:
        _ASSUMED.reset(token)


@cache
def _packaged() -> Technology:
    """Return the packaged library; read on first use and kept."""
    folder = resources.files(__package__) / "data"
    return read_technology(folder / "technology.yaml", folder / "economics.yaml")


@dataclass(slots=True)
class FigureLog:
    """Reads figures for a calculation and keeps which ones it rested on.

    Every function of this package takes `used`, a log. Without one it reads the packaged library
    and keeps no record. One log may be passed through many calls: each figure is listed once.
    """

    library: Technology = field(default_factory=lambda: technology())
    """The library that is read."""
    _figures: dict[str, Figure] = field(default_factory=dict, init=False)
    _notes: dict[str, None] = field(default_factory=dict, init=False)

    def si(self, path: str, *, owner: str) -> float:
        """Return a figure in base units and record its use.

        Args:
            path: Dotted path.
            owner: What needs the figure, for the error message.

        Raises:
            MissingFigureError: The library has no such figure.
        """
        return self.figure(path, owner=owner).base_value

    def figure(self, path: str, *, owner: str) -> Figure:
        """Return a figure as the library states it and record its use.

        Args:
            path: Dotted path.
            owner: What needs the figure, for the error message.

        Raises:
            MissingFigureError: The library has no such figure.
        """
        found = self.library.figures.get(path)
        if found is None:
            raise MissingFigureError(
                figure=path,
                owner=owner,
                supplier="a library that has it: `technology().with_figures(Figure(...))`",
            )
        self._figures[path] = found
        return found

    def si_or_none(self, path: str, *, owner: str) -> float | None:
        """Return a figure in base units and record its use; `None` when the library lacks it."""
        return self.si(path, owner=owner) if path in self.library.figures else None

    def note(self, text: str) -> None:
        """Keep a remark on a fallback, once."""
        self._notes[text] = None

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The figures used so far, in order of first use."""
        return tuple(self._figures.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """The remarks so far."""
        return tuple(self._notes)

    def sources(self) -> dict[str, tuple[str, str]]:
        """Return citation and grade of each figure used by its path, and of each remark by its subject.

        A remark is of the form `subject: what is used instead`, and is graded as an assumption.
        """
        found = {
            path: (self.library.citation(path), str(figure.grade))
            for path, figure in self._figures.items()
        }
        for text in self._notes:
            subject, _, instead = text.partition(": ")
            found[subject] = (instead, str(Grade.ASM))
        return found

    def paths_by_grade(self) -> dict[Grade, tuple[str, ...]]:
        """Return the paths used so far under their grades, best grade first."""
        return {
            grade: paths
            for grade in Grade
            if (paths := tuple(f.path for f in self.figures if f.grade is grade))
        }


def reading(used: FigureLog | None) -> FigureLog:
    """Return `used`, or a log on the packaged library that nobody will look at."""
    return FigureLog() if used is None else used


def check_node(node: str) -> str:
    """Return `node` when it is a process of the library.

    Raises:
        UnknownNameError: It is none.
    """
    return check_name("node", node, NODES)


def check_name(kind: str, name: str, known: tuple[str, ...]) -> str:
    """Return `name` when it is one of `known`.

    Raises:
        UnknownNameError: It is none of them.
    """
    if name not in known:
        raise UnknownNameError(
            kind=kind, name=name, known=known, hint="The technology library lists them."
        )
    return name


def read_technology(*files: Traversable) -> Technology:
    """Return the library that `files` hold together.

    Args:
        files: YAML files; one of them has the block `sources`.

    Raises:
        FieldError: A leaf is malformed, or two files state the same figure.
        InputError: A unit is unknown.
        UnknownNameError: A source is unknown.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    sources: dict[str, Source] = {}
    figures: dict[str, Figure] = {}
    for file in files:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
        for key, entry in document.pop("sources", {}).items():
            sources[key] = load(Source, {"key": key, **entry}, where=f"{file.name}: sources.{key}")
        for header in ("schema", "compiled"):
            document.pop(header, None)
        for path, leaf in _leaves(document, "", file.name):
            figure = load(Figure, _renamed(path, leaf), where=f"{file.name}: {path}")
            if path in figures:
                raise FieldError(
                    where=file.name, path=path, problem="is stated twice", expected="one statement"
                )
            figures[path] = figure
    for figure in figures.values():
        _check(figure, sources)
    return Technology(MappingProxyType(figures), MappingProxyType(sources))


def _leaves(
    branch: Mapping[str, Any], prefix: str, file: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, entry in branch.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if not isinstance(entry, dict):
            raise FieldError(
                where=file,
                path=path,
                problem=f"found {entry!r}",
                expected="a figure {value, unit, source, q} or a block of figures",
            )
        if "value" in entry:
            yield path, entry
        else:
            yield from _leaves(entry, path, file)


def _renamed(path: str, leaf: dict[str, Any]) -> dict[str, Any]:
    fields = {"path": path, **leaf}
    if "q" in fields:
        fields["grade"] = fields.pop("q")
    return fields


def _check(figure: Figure, sources: Mapping[str, Source]) -> None:
    is_formula = figure.unit == "formula"
    if not is_formula:
        base_unit(figure.unit)
    if isinstance(figure.value, str) is not is_formula:
        raise FieldError(
            where="technology library",
            path=figure.path,
            problem=f"found {figure.value!r} with the unit {figure.unit!r}",
            expected="a text with the unit 'formula', or a number with a unit of its own",
        )
    if figure.source not in sources:
        raise UnknownNameError(
            kind="source",
            name=figure.source,
            known=sources,
            hint=f"Figure {figure.path} needs an entry under `sources`.",
        )
