"""What pentarch answers: evaluations, verdicts, studies. Every figure as docs/explanation/definitions.md defines it."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from pentarch.model import DeferredModel, Model
from pentarch.workload.query import Precisions, Query

Scalar = bool | int | float | str
"""Value of a design parameter."""


class Infeasible(Model):
    """A design that cannot run: an answer, not an error."""

    reason: str
    """What does not fit, with the arithmetic."""
    short_bytes: float | None = None
    """Bytes missing, when it is memory that does not fit."""


class TargetId(StrEnum):
    """The five targets, in their fixed order."""

    PROCESSING = "processing"
    LATENCY = "latency"
    ENERGY = "energy"
    COST = "cost"
    PROGRAMMABILITY = "programmability"


class VerdictKind(StrEnum):
    """What can be said of a target."""

    MET = "met"
    MISSED = "missed"
    UNKNOWN = "unknown"
    INFEASIBLE = "infeasible"


class Verdict(Model):
    """The verdict on one target."""

    id: TargetId
    """Which target."""
    verdict: VerdictKind
    """Met, missed, unknown or infeasible."""
    figure: str
    """Figure that decides: the condition with the least margin."""
    value: float | None
    """Its value; `None` when unknown."""
    threshold: float
    """Threshold it is held against."""
    margin: float | None
    """Signed relative distance to the threshold, positive = met; `None` when unknown or infeasible."""
    bottleneck: str | None = None
    """Resource that sets the value."""
    reason: str | None = None
    """Why the verdict is unknown or infeasible, and who could supply what is missing."""
    assumption: str | None = None
    """Assumption that the threshold rests on."""


class OperatingPoint(Model):
    """Where all five verdicts are read."""

    query: Query
    """Lengths and load."""
    precisions: Precisions
    """Number formats."""
    runtime: str
    """Software stack."""
    load: str = "closed loop"
    """Kind of load: closed loop, open loop or offline."""
    degrees: dict[str, int]
    """Degrees of parallelism of the plan."""


class MfuFigures(Model):
    """Model FLOP utilization by phase; `None` for a phase that the query lacks."""

    prefill: float | None
    """While prompts are processed."""
    decode: float | None
    """While tokens are generated."""
    query: float | None
    """Over the whole query: the figure that target 1 judges."""


class WattsPerPflops(Model):
    """Power per PFLOPS on both bases, system DC boundary."""

    delivered: float | None
    """Mean power at the operating point / delivered PFLOPS."""
    peak: float | None
    """Full-load power (cap) / dense peak."""


class Bounds(Model):
    """What no run of an operator can go below, and how far above it this one is; one execution."""

    time_s: float
    """Roofline bound: the longer of its work at the peak of its format and its compulsory bytes at
    the bandwidth of the level where they live."""
    level: str | None
    """Level that sets the bound; `None` where the work at peak does."""
    time_gap: float | None
    """Time / bound - 1; `None` for an operator that needs neither work nor bytes."""
    compulsory_bytes: float
    """Bytes that must cross the outermost memory: operands that do not live on chip, once."""
    moved_bytes: float
    """Bytes that cross it."""
    bytes_gap: float | None
    """Moved / compulsory - 1; `None` for an operator that needs no bytes from there."""


class Fusion(Model):
    """Whether an operator runs inside a neighbor, or an attention keeps its scores on chip."""

    fused: bool
    """Whether it does."""
    reason: str
    """What allows, forbids or decides it."""


class Refetch(Model):
    """The next step down in the bytes that an operator fetches again."""

    level: str
    """Level whose capacity decides."""
    capacity_bytes: float
    """Room that the operator needs there, all instances together, beside what is resident."""
    now_bytes: float
    """Room that it has."""
    saved_bytes: float
    """Bytes of memory traffic of one execution that the step saves."""


class OperatorCost(DeferredModel):
    """Cost of one operator over a whole query; its mapping is looked up when it is asked for."""

    name: str
    """Operator."""
    phase: str
    """Prefill or decode."""
    executions: float
    """Times a query executes it: layers x steps."""
    time_s: float
    """Time of one execution, in the phase's step."""
    total_s: float
    """Time of all executions of one query's steps."""
    busy_s: float | None = None
    """Time of all executions while as many queries are answered as a replica has in flight: their
    prefills one by one, their decode steps together."""
    bottleneck: str
    """Resource of the largest term."""
    next_bottleneck: str | None
    """Resource that binds next, were the bottleneck removed."""
    terms_s: dict[str, float]
    """Time of each resource alone, for one execution."""
    read_bytes: dict[str, float]
    """Bytes read by level, for one execution."""
    write_bytes: dict[str, float]
    """Bytes written by level, for one execution."""
    energy_j: float | None
    """Dynamic energy of one execution; `None` when a figure is unknown."""
    executed_macs: float
    """Multiply-accumulates executed, for one execution."""
    fidelity: str
    """How the cost was found."""
    headroom: float | None = None
    """Largest / second-largest term: how many times faster the bottleneck may become before the
    next one binds; `None` when nothing else takes time."""
    bounds: Bounds | None = None
    """Lower bounds and the gaps to them; `None` for collectives."""
    fusion: Fusion | None = None
    """Why it is or is not fused; `None` for what is never a candidate: products and collectives."""
    mapping: dict[str, float | str] = {}
    """How it runs, as far as known: engine, format, dataflow, tile, split, waves, loop order."""
    next_refetch: Refetch | None = None
    """Capacity that would remove the next refetch; `None` when nothing is fetched again, or when the
    mapper cannot tell."""

    @property
    def device_s(self) -> float:
        """Time to compare operators of both phases by: `busy_s`, or `total_s` where that is unknown."""
        return self.total_s if self.busy_s is None else self.busy_s


class Roofs(Model):
    """What bounds the rates of operators on one device: its roofline."""

    device: str
    """Name of the device."""
    memory: str
    """Level where everything lies that is not resident on chip; intensity counts its bytes."""
    memory_bytes_per_s: float
    """Sustained read bandwidth of that level."""
    main_format: str
    """Compute format of most of the work: the one that rates the peak."""
    peak_flops_per_s: dict[str, float]
    """Dense peak by compute format, for the formats that this workload runs in."""

    @property
    def ridge(self) -> float:
        """FLOPs per byte at which the roof of the main format meets that of the memory."""
        return self.peak_flops_per_s[self.main_format] / self.memory_bytes_per_s


class LedgerEntry(Model):
    """One step from ideal to actual; the shares of all steps sum to 1."""

    name: str
    """What the time, the energy or the money went to."""
    share: float
    """Share of the reserved device time, of `query_j` or of `system_usd`."""
    ideal: bool = False
    """Whether an ideal device would need it too."""


class AmountEntry(LedgerEntry):
    """A step of the energy or the cost ledger."""

    amount: float
    """Joules of one query, or USD of the system; all amounts sum to the total."""


class InputEffect(Model):
    """What one weakly graded input does to a verdict, everything else as it is."""

    path: str
    """The input, as in `inputs.figures`; fields of a device that share the source `*` by name."""
    grade: str
    """`asm` or `est`."""
    source: str
    """Where it comes from, or why it is plausible."""
    value: float
    """What the evaluation rests on, in the unit that the input is stated in."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end."""
    interval_stated: bool
    """Whether a source or a prior states the interval; if not, it is a factor of two either way."""
    figure_low: float | None
    """The figure that decides the verdict, at the lower end; `None` when it is unknown there."""
    figure_high: float | None
    """The same at the upper end."""
    verdict_low: VerdictKind
    """The verdict at the lower end."""
    verdict_high: VerdictKind
    """The verdict at the upper end."""
    elasticity: float | None
    """Relative change of the figure / relative change of the input over the interval (of the
    logarithms); `None` where one of them is not positive."""
    flips: bool
    """Whether the target is met at one of the ends and not as it is, or the other way round."""


class Sensitivity(Model):
    """Which weakly graded inputs move one verdict: those that flip it, those that change it, by size."""

    target: TargetId
    """The target."""
    figure: str
    """Figure that decides the verdict."""
    value: float | None
    """Its value."""
    verdict: VerdictKind
    """The verdict."""
    inputs: tuple[InputEffect, ...] = ()
    """All that change it and those that move its figure most; empty when nothing moves it."""
    tested: int = 0
    """Inputs that were changed, one at a time."""
    untested: tuple[str, ...] = ()
    """Weakly graded inputs that are no numbers, are 0, or whose ends are no possible machine or
    stack."""


class Inputs(Model):
    """What a result rests on."""

    hash: str
    """Digest of every input, so that equal inputs can be recognized."""
    version: str
    """Version of pentarch."""
    grades: dict[str, int]
    """Number of graded technology figures used, by grade."""
    figures: tuple[str, ...] = ()
    """Paths of the figures whose grade is an assumption."""


class Evaluation(DeferredModel):
    """One design at one operating point; what explains it is computed when it is asked for."""

    workload: str
    """Name of the workload."""
    system: str
    """Name of the system."""
    backend: str
    """Back-end of its devices."""
    partitioner: str
    """Who made the plan."""
    devices: int
    """Devices reserved."""
    operating_point: OperatingPoint
    """Where the figures are read."""
    feasible: bool
    """Whether the design can run at all."""
    reason: str | None
    """Why not, with the arithmetic."""
    ttft_s: float | None
    """Time to first token."""
    tpot_s: float | None
    """Mean time per later token; `None` when only one token is generated."""
    query_s: float | None
    """Latency of the whole query."""
    throughput_tokens_per_s: float | None
    """Generated tokens per second over the whole system."""
    queries_per_s: float | None
    """Completed queries per second over the whole system."""
    useful_flops: float
    """Useful FLOPs of one query."""
    delivered_flops_per_s: float | None
    """Useful FLOPs of completed queries / wall time."""
    peak_flops_per_s: float | None
    """Dense peak of all reserved devices in the format the main GEMMs run in."""
    mfu: MfuFigures
    """Model FLOP utilization."""
    mbu: float | None
    """Compulsory bytes / (memory bandwidth x time) in decode."""
    hfu: float | None
    """Executed FLOPs / (peak x time)."""
    mean_w: float | None
    """Mean power, system DC boundary."""
    peak_w: float | None
    """Power of the hungrier phase, system DC boundary."""
    full_load_w: float | None
    """Power at the cap of every device plus host."""
    w_per_pflops: WattsPerPflops
    """Power per PFLOPS."""
    j_per_token: float | None
    """Energy per generated token."""
    query_j: float | None
    """Energy of one query."""
    energy_j: dict[str, float | None]
    """Energy of one query by component; sums to `query_j`."""
    system_usd: float | None
    """Price of the system."""
    bom_usd: float | None
    """Bill of material of the system."""
    query_usd: float | None
    """Cost of one query at the stated utilization."""
    tco: dict[str, float] = {}
    """Cost of one query by what it pays for: the system, the facility, energy, operation; sums to
    `query_usd`, empty when that is unknown."""
    price_parts_usd: dict[str, float]
    """Bill of material of the system by component, as far as known."""
    area_mm2: dict[str, float]
    """Silicon of one device by component, as far as known."""
    programmability: float | None
    """Share of later reference operators that run at a useful rate."""
    update_s: float | None
    """Time to bring a new operator to the device."""
    memory_bytes: dict[str, float]
    """Memory of the fullest device by use, and its capacity."""
    bottleneck: str | None
    """Resource that takes most of the query's time."""
    targets: tuple[Verdict, ...] = ()
    """The five verdicts, in order."""
    operators: tuple[OperatorCost, ...] = ()
    """Cost by operator."""
    ledger: tuple[LedgerEntry, ...] = ()
    """From peak to delivered, in reserved device time."""
    energy_ledger: tuple[AmountEntry, ...] = ()
    """From the ideal energy of a query to `query_j`; empty when an energy is unknown."""
    cost_ledger: tuple[AmountEntry, ...] = ()
    """What `system_usd` pays for; empty when the price or the bill of material is unknown."""
    roofs: tuple[Roofs, ...] = ()
    """Roofline of each kind of device."""
    notes: tuple[str, ...] = ()
    """What was skipped, clipped or replaced."""
    inputs: Inputs
    """What the result rests on."""
    sensitivity: tuple[Sensitivity, ...] = ()
    """Which assumptions move each verdict most; empty unless it was asked for (`--explain`)."""

    @property
    def least_margin(self) -> float | None:
        """The least margin of the five verdicts; `None` when one is unknown or infeasible."""
        margins = [verdict.margin for verdict in self.targets]
        known = [margin for margin in margins if margin is not None]
        return min(known) if known and len(known) == len(margins) else None

    @property
    def meets_all(self) -> bool:
        """Whether all five targets are met."""
        return bool(self.targets) and all(v.verdict is VerdictKind.MET for v in self.targets)


class Trial(Model):
    """One sampled design of a study."""

    number: int
    """Order of sampling."""
    parameters: dict[str, Scalar]
    """Design parameters by path."""
    feasible: bool
    """Whether the design can run at all."""
    reason: str | None = None
    """Why not, or which figure is unknown."""
    figures: dict[str, float | None] = {}
    """Figures by name."""
    verdicts: dict[str, VerdictKind] = {}
    """Verdict by target."""
    margins: dict[str, float | None] = {}
    """Margin by target."""

    @property
    def targets_met(self) -> int:
        """How many of the five targets are met."""
        return sum(kind is VerdictKind.MET for kind in self.verdicts.values())

    @property
    def meets_all(self) -> bool:
        """Whether all five targets are met."""
        return self.feasible and self.targets_met == len(TargetId)

    @property
    def least_margin(self) -> float | None:
        """The least margin; `None` when one is unknown or the design cannot run."""
        if not self.feasible or len(self.margins) < len(TargetId):
            return None
        margins = [margin for margin in self.margins.values() if margin is not None]
        return min(margins) if len(margins) == len(TargetId) else None

    @property
    def binding(self) -> str | None:
        """The target with the least margin; an unknown one binds first."""
        if not self.margins:
            return None
        return min(
            self.margins, key=lambda key: (self.margins[key] is not None, self.margins[key] or 0.0)
        )


class Design(Model):
    """A trial worth showing, with its full evaluation."""

    trial: Trial
    """The trial."""
    evaluation: Evaluation
    """Its evaluation, operators included."""


class StudyResult(Model):
    """The answer of a search."""

    space: str
    """Name of the space."""
    about: str = ""
    """What the space is."""
    log: str | None
    """Path or URL of the run log."""
    run: int | None = None
    """Number of the run inside its log."""
    objectives: tuple[str, ...]
    """Figures that were optimized, the first decides `best`."""
    directions: tuple[str, ...] = ()
    """minimize or maximize, one per objective."""
    n_trials: int
    """Trials finished."""
    n_feasible: int
    """Trials that meet all five targets."""
    best: Design | None
    """Among designs that meet all five, the best by the first objective, ties by trial number."""
    nearest: Design | None
    """The design with the largest least margin."""
    front: tuple[Trial, ...]
    """Non-dominated designs over the objectives: of those that meet all five, else of all that run."""
    compared: tuple[Design, ...] = ()
    """Designs to be shown side by side, when this is a comparison and no search."""
    trials: tuple[Trial, ...] = Field(default=(), repr=False)
    """Every trial."""
    stopped_by: str
    """`trials`, `interrupt`, `exhausted` or `timeout`."""
    seconds: float | None = None
    """Wall time of the search."""
    settings: dict[str, Any] = {}
    """Sampler, seed, batch size and versions."""
