"""Full load: power and throughput of a device in one large matrix product, under its power cap.

A datasheet has one power limit for all formats, and a peak at a clock that the limit need not allow.
What a device holds is the balance of both: static power, arithmetic and what is moved at every level,
at the clock where their sum meets the limit (definitions.md, Power cap).
"""

from dataclasses import dataclass

import numpy as np

from pentarch.contracts.backend import AnyBackend
from pentarch.errors import FieldError, MissingFigureError
from pentarch.evaluate.batches import ask_rows
from pentarch.evaluate.power import static_power
from pentarch.evaluate.row_power import capped_row_seconds
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import GemmTable
from pentarch.hardware.machine import MachineTable, peak_macs_per_s
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.costs import RowRequest
from pentarch.mapping.engine import check_costs
from pentarch.mapping.launching import started

SIDE = 16384
"""Side of the product: large enough that tiles are reused fully and waves are full."""


@dataclass(frozen=True, slots=True)
class FullLoad:
    """One large matrix product on one device."""

    power_w: float
    """Mean power while it runs, memory included: at most the cap."""
    flops_per_s: float
    """2 · m · k · n / time, at the clock that the cap allows."""
    peak_flops_per_s: float
    """Dense peak of the format."""
    cap_w: float
    """Power limit."""
    free_w: dict[str, float]
    """What static power and each component would draw at the peak and nominal supply."""

    @property
    def w_per_pflops(self) -> float:
        """Mean power / what is delivered, in W per 1e15 FLOPs a second."""
        return self.power_w / self.flops_per_s * 1e15

    @property
    def datasheet_w_per_pflops(self) -> float:
        """Power limit / dense peak."""
        return self.cap_w / self.peak_flops_per_s * 1e15

    @property
    def free_w_per_pflops(self) -> float:
        """Power / dense peak if no limit held the clock back."""
        return sum(self.free_w.values()) / self.peak_flops_per_s * 1e15


def full_load(
    machine: MachineTable, backend: AnyBackend, runtime: Runtime, number_format: str
) -> FullLoad:
    """Return power and throughput of a product of two `SIDE` x `SIDE` matrices in one format.

    Args:
        machine: One design.
        backend: Its back-end.
        runtime: Software stack; `ideal` for the hardware alone.
        number_format: Format of both operands; 16-bit results where it is narrower.

    Raises:
        FieldError: The device does not multiply the format.
        MissingFigureError: Its power limit, static power or an energy is unknown.
    """
    macs = peak_macs_per_s(machine, number_format)
    if macs is None:
        known = sorted({name for engine in machine.engines for name in engine.macs_per_cycle})
        raise FieldError(
            where=f"full load of {machine.name}", path="number_format",
            problem=f"found {number_format}, which it does not multiply",
            expected=f"one of {', '.join(known)}",
        )  # fmt: skip
    cap, static = machine.power.cap_w, static_power(machine)
    request = RowRequest(
        kind=OperatorKind.GEMM, rows=_product(number_format), machine=machine, runtime=runtime,
        sequences=np.ones((1, machine.length)),
    )  # fmt: skip
    costs = ask_rows(backend, request)
    check_costs(request, costs)
    costs = started(costs, machine, runtime)
    energy_j = {name: None if part is None else part[0, 0] for name, part in costs.energy_j.items()}
    unknown = [name for name, part in energy_j.items() if part is None]
    if cap is None or static is None or unknown:
        raise MissingFigureError(
            figure=f"energy of {', '.join(unknown)}" if unknown else "power limit or static power",
            owner=machine.name, supplier="the device's file or its back-end",
        )  # fmt: skip
    seconds = float(capped_row_seconds(costs, machine)[0, 0])
    flops, peak = 2.0 * SIDE**3, 2.0 * float(macs[0])
    joules = {name: float(part) for name, part in energy_j.items() if part is not None}
    drawn = float(static[0]) + sum(joules.values()) / seconds
    return FullLoad(
        power_w=min(drawn, float(cap[0])), flops_per_s=flops / seconds, peak_flops_per_s=peak,
        cap_w=float(cap[0]),
        free_w={"static": float(static[0])} | {
            name: part * peak / flops for name, part in joules.items()
        },
    )  # fmt: skip


def _product(number_format: str) -> GemmTable:
    one = np.ones(1)
    return GemmTable(
        names=("full load",), phases=(Phase.PREFILL,), executions=one, stage=np.zeros(1, np.int64),
        rows=one * SIDE, k=one * SIDE, n=one * SIDE, experts=one * 0, experts_per_token=one * 0,
        experts_total=one * 0, a_formats=(number_format,), b_formats=(number_format,),
        out_formats=("bf16",), layers=one, streams_weights=np.ones(1, dtype=np.bool_),
    )  # fmt: skip
