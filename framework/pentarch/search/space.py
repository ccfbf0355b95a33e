"""The design space: what a search varies, what it keeps, and what it is judged by."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from pentarch.documents import Document, read_document
from pentarch.errors import FieldError, UnknownNameError
from pentarch.model import Model, load
from pentarch.results import Scalar
from pentarch.search.distributions import Distribution, FloatRange, IntRange, parse_distribution
from pentarch.search.enumeration import check_conditions, designs, size
from pentarch.search.objectives import ObjectiveEntry
from pentarch.targets import Economics, Targets
from pentarch.workload.query import Precisions, Query

Strategy = Literal["nsga2", "tpe", "random", "exhaustive"]


def known_strategy(name: str | None) -> Strategy | None:
    """Return the strategy of this name; `None` stays `None`.

    Raises:
        UnknownNameError: There is none.
    """
    for strategy in get_args(Strategy):
        if name == strategy:
            known: Strategy = strategy
            return known
    if name is None:
        return None
    raise UnknownNameError(
        kind="strategy", name=name, known=get_args(Strategy), hint="See `pentarch search --help`."
    )


class SamplerSettings(Model):
    """How designs are proposed."""

    strategy: Strategy = "nsga2"
    """`nsga2` (genetic, several objectives), `tpe` (Bayesian, few trials), `random`, or
    `exhaustive` (every design of a finite space in a fixed order)."""
    population: int = Field(default=50, ge=2)
    """Designs per generation of `nsga2`."""


class Space(Model):
    """A design space: one scenario, and the parameters of it that a search varies."""

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["space"] = "space"
    """What the file defines."""
    about: str = ""
    """One line for lists."""
    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")
    """Name of the space; by default the stem of its file."""
    workload: str
    """Workload: a catalog name or the path of a config.json."""
    query: Query = Query()
    """Lengths and load, as far as they are not searched."""
    system: str
    """Device, `N x device` (as in `8xh100_sxm`) or system: catalog name or path."""
    partitioner: str = "single"
    """Who cuts the workload for the devices."""
    degree: PositiveInt | None = None
    """Degree of parallelism; left out, the partitioner chooses it."""
    runtime: str = "ideal"
    """Software stack."""
    precisions: Precisions | None = None
    """Number format of every role, as far as it is not searched; left out, fp8 or what the device
    has instead."""
    search: dict[str, Distribution] = Field(min_length=1)
    """Distributions by parameter path: a field of the device, `query.FIELD`, `precisions.ROLE`,
    `system.FIELD`, or `device`, `runtime`, `partitioner`, `degree`, `workload`."""
    objectives: tuple[ObjectiveEntry, ...] = Field(min_length=1)
    """Figures to improve; the first decides which design is the best. `-NAME` maximizes."""
    targets: Targets = Targets()
    """Thresholds of the five targets."""
    economics: Economics = Economics()
    """What turns a price into USD per query."""
    sampler: SamplerSettings = SamplerSettings()
    """How designs are proposed."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_conditions(self.search, where=f"space {self.name}".rstrip())
        return self

    @property
    def size(self) -> int | None:
        """Number of different designs; `None` when a parameter is continuous."""
        return size(self.search)

    def designs(self) -> Iterator[dict[str, Scalar]]:
        """Yield every design of a finite space, in a fixed order.

        Raises:
            FieldError: A parameter is continuous.
        """
        return designs(self.search)

    def extremes(self) -> dict[str, tuple[Scalar, ...]]:
        """Return all choices of each categorical parameter and both bounds of each numeric one."""
        return {
            path: entry.bounds if isinstance(entry, IntRange | FloatRange) else entry.choice
            for path, entry in self.search.items()
        }

    def record(self) -> dict[str, Any]:
        """Return the space as JSON data that `space_from` reads back."""
        return self.model_dump(mode="json")


def space_from(values: Mapping[str, Any], *, where: str, name: str = "") -> Space:
    """Return the space that parsed YAML describes.

    Args:
        values: The parsed file.
        where: The file, for errors.
        name: Name of the space; a `name` among `values` goes before it.

    Raises:
        FieldError: A field is missing, unknown or wrong; names the file, the field's path and
            what would be right.
    """
    fields = dict(values)
    fields.setdefault("name", name)
    raw = fields.get("search")
    if not isinstance(raw, Mapping) or not raw:
        problem = "is missing" if raw is None else f"found {raw!r}"
        raise FieldError(
            where=where, path="search", problem=problem,
            expected="at least one parameter, for example {chips: {int: [1, 16]}}",
        )  # fmt: skip
    search = {
        str(path): parse_distribution(str(path), entry, where=where) for path, entry in raw.items()
    }
    check_conditions(search, where=where)
    return load(Space, {**fields, "search": search}, where=where)


def space_of(document: Document, *, name: str) -> Space:
    """Return the space in a YAML document; errors name the line.

    Raises:
        FieldError: The document is no valid space.
    """
    with document.located():
        return space_from(document.values, where=document.where, name=name)


def read_space(path: str | Path) -> Space:
    """Return the space in a YAML file; its name is the file's stem.

    Raises:
        InputError: The file cannot be read or is no YAML.
        FieldError: The file is no valid space.
    """
    file = Path(path)
    return space_of(read_document(file, where=str(path)), name=file.stem)


def space_schema() -> dict[str, Any]:
    """Return the JSON schema of a space file."""
    schema = Space.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
