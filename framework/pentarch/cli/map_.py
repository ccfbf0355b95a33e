"""`pentarch map`: the mapping of one GEMM."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pentarch.cli.output import JsonFlag, library, print_json

if TYPE_CHECKING:
    from pentarch.evaluate.gemm_study import GemmStudy
    from pentarch.results import Infeasible

Dimension = Annotated[int, typer.Argument(min=1, max=2**31)]


class TileConvention(StrEnum):
    """How tiles share a buffer."""

    EVEN = "even"
    EVEN_DB = "even_db"
    UNEVEN = "uneven"


class MappingObjective(StrEnum):
    """What a mapping minimizes."""

    TIME = "time"
    ENERGY = "energy"
    EDP = "edp"


BUFFER_OPTIONS = ("word_bytes", "partial_bytes", "convention", "perfect")
"""Options that describe one buffer; a device states them itself."""

DEVICE_OPTIONS = ("weights", "activations", "runtime")
"""Options that only a device has a use for."""


def map_(
    context: typer.Context,
    m: Dimension,
    k: Dimension,
    n: Dimension,
    device: Annotated[str | None, typer.Option(help="Device that runs the GEMM.")] = None,
    buffer: Annotated[
        str | None, typer.Option(help="Capacity of the one buffer, for example 2MiB.")
    ] = None,
    word_bytes: Annotated[
        float, typer.Option(help="Bytes of a word of A, B and finished C.")
    ] = 1.0,
    partial_bytes: Annotated[
        float | None, typer.Option(help="Bytes of a partial sum.  [default: as a word]")
    ] = None,
    convention: Annotated[
        TileConvention, typer.Option(help="How tiles share the buffer.")
    ] = TileConvention.EVEN,
    perfect: Annotated[
        bool, typer.Option("--perfect", help="Only tiles that divide the dimensions.")
    ] = False,
    weights: Annotated[str, typer.Option(help="Format of B on a device.")] = "fp8",
    activations: Annotated[str, typer.Option(help="Format of A and C on a device.")] = "fp8",
    runtime: Annotated[str, typer.Option(help="Software stack on a device.")] = "ideal",
    objective: Annotated[
        MappingObjective, typer.Option(help="What the mapping on a device minimizes.")
    ] = MappingObjective.TIME,
    as_json: JsonFlag = False,
) -> None:
    """Map one GEMM behind a buffer or on a device.

    The GEMM is C[M,N] = A[M,K] B[K,N].
    """
    from pentarch.errors import InputError
    from pentarch.evaluate.gemm_study import study_behind_buffer, study_on_device
    from pentarch.mapping.single import GemmShape
    from pentarch.units import parse

    if (device is None) == (buffer is None):
        raise InputError("Name either `--device D` or `--buffer BYTES`, and not both.")
    _refuse(context, DEVICE_OPTIONS if device is None else BUFFER_OPTIONS, beside_device=device)
    if device is not None:
        found_device = library().device(device)
        study = study_on_device(
            (m, k, n), found_device, library().backend_of(found_device),
            formats=(weights, activations), runtime=library().runtime(runtime), objective=objective.value,
        )  # fmt: skip
    else:
        if objective is not MappingObjective.TIME:
            raise InputError(
                "Behind `--buffer` the least traffic is sought, whatever the objective. Name a "
                f"`--device` for `--objective {objective.value}`."
            )
        partial = word_bytes if partial_bytes is None else partial_bytes
        shape = GemmShape(m, k, n, word_bytes, word_bytes, word_bytes, partial, partial)
        capacity = parse(str(buffer), "B")
        sizes = {"--buffer": capacity, "--word-bytes": word_bytes, "--partial-bytes": partial}
        _check_positive(sizes)
        study = study_behind_buffer(shape, capacity, convention=convention.value, perfect=perfect)
    _print(study, as_json=as_json)


def _refuse(context: typer.Context, names: tuple[str, ...], *, beside_device: str | None) -> None:
    """Refuse options that would have no effect.

    Raises:
        InputError: One of them was given.
    """
    from pentarch.errors import InputError

    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            if beside_device is None:
                raise InputError(
                    f"`{option}` describes a product on a device and means nothing behind `--buffer`. "
                    "Leave it out, or name a `--device`; `--word-bytes` and `--partial-bytes` are the "
                    "words behind a buffer."
                )
            raise InputError(
                f"`{option}` describes a single buffer and means nothing on a device: "
                f"{beside_device} states its own buffers. Leave it out, or name a `--buffer`; "
                "`--weights` and `--activations` are the formats on a device."
            )


def _check_positive(sizes: dict[str, float]) -> None:
    """Refuse sizes that are no sizes.

    Raises:
        InputError: One is not positive and finite.
    """
    import math

    from pentarch.errors import InputError

    for option, size in sizes.items():
        if not 0.0 < size < math.inf:
            raise InputError(
                f"`{option}` is {size:g} bytes. Expected a positive, finite number of bytes, for "
                f"example `{option} {'2MiB' if option == '--buffer' else '2'}`."
            )


def _print_document(study: "GemmStudy | Infeasible") -> None:
    """Print one JSON document; where nothing fits, with every key, the reason and null figures."""
    from pentarch.evaluate.gemm_study import GemmStudy
    from pentarch.results import Infeasible

    if isinstance(study, Infeasible):
        print_json({**dict.fromkeys(GemmStudy.model_fields), **study.model_dump(mode="json")})
    else:
        print_json(study)


def _print(study: "GemmStudy | Infeasible", *, as_json: bool) -> None:
    if as_json:
        _print_document(study)
        return
    from pentarch.evaluate.gemm_study import loop_nest
    from pentarch.results import Infeasible
    from pentarch.units import show

    if isinstance(study, Infeasible):
        print(f"infeasible: {study.reason}")
        return
    print(f"traffic      {study.traffic_bytes:,.0f} bytes between memory and the first buffer")
    print(f"lower bound  {study.bound_bytes:,.0f} bytes, gap {study.gap:.2%}")
    if study.next_capacity_bytes is not None and study.next_traffic_bytes is not None:
        print(
            f"next step    {study.next_traffic_bytes:,.0f} bytes from a buffer of "
            f"{study.next_capacity_bytes:,.0f} bytes"
        )
    for name, value in study.traffic.items():
        if value is not None:
            print(f"  {name:<11}{value:,.0f}")
    if study.time_s is not None:
        print(f"time         {show(study.time_s, 's')}, bound by {study.bottleneck}")
        print(f"least time   {show(study.bound_s, 's')}, gap {study.time_gap:.2%}")
        print(f"energy       {show(study.energy_j, 'J')}")
        for name, seconds in study.terms_s.items():
            print(f"  {name:<20}{show(seconds, 's')}")
    for line in (loop_nest(study), *study.notes):
        if line:
            print(line)
