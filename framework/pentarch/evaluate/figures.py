"""Every figure of N designs at one operating point, from the costs of their stages.

Serving in closed form (definitions.md, Serving, closed form): C queries in flight, each replaced
when it ends; `queueing` says how their prompts and decode steps share the device. Under a serial
scheduler, with t_p the time of a prefill and t_d(C) the mean time of a decode step,

    TTFT  = t_p + (C - 1) t_p / T          the others' prefills that wait ahead, on average
    TPOT  = t_d(C) + (C - 1) t_p / T       the others' prefills that fall into a step
    query = TTFT + (T - 1) TPOT = C t_p + (T - 1) t_d(C)
    queries per second = C / query

so that the work of C queries fills the time of one exactly.

With p stages in sequence C queries are cut into min(C, p) micro-batches that follow one another
(same section: a pipeline needs at least p of them). t_d is then the time of a micro-batch through
all stages, or of all micro-batches through the slowest stage if that is longer, and another's
prefill delays a query by its time in the slowest stage only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from pentarch.errors import CostError
from pentarch.evaluate.feasibility import Feasibility, feasibility
from pentarch.evaluate.mixing import saved_by_mixing
from pentarch.evaluate.power import PhasePower, static_power, total_energy
from pentarch.evaluate.programmability import score
from pentarch.evaluate.queueing import Load, steady
from pentarch.evaluate.stage_costs import PHASES, StageInput
from pentarch.evaluate.stage_result import StageResult
from pentarch.graph.operators import Phase
from pentarch.graph.table import GemmTable, OperatorTable
from pentarch.hardware.columns import FEW_DESIGNS, Floats, sum_rows
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.system import System
from pentarch.hardware.technology.ownership import Ownership, OwnershipTerms, ownership_cost
from pentarch.mapping.arithmetic import Product, resolve
from pentarch.mapping.traffic import level_bandwidth
from pentarch.targets import Economics

SECONDS_PER_YEAR = 365.25 * 86400
J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Figures of N designs; arrays of shape (N,), NaN or `None` where unknown."""

    values: Mapping[str, Floats | None]
    """By name, dotted for nested ones, as in `results.Evaluation`."""
    energy_j: Mapping[str, Floats | None]
    """Energy of one query by component, system DC boundary."""
    feasibility: Feasibility
    """Whether the design can run, and why not."""
    stages: tuple[StageResult, ...]
    """What they were computed from."""
    deployment: "Deployment"
    """The system around the stages, and the load."""


@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """What the stages are part of."""

    system: System
    """The system."""
    economics: Economics
    """What turns prices into USD per query."""
    concurrency: Floats
    """Queries in flight over the whole system, shape (N,)."""
    own: Floats
    """Queries in flight in one replica, shape (N,)."""
    replicas: float
    """Copies of the whole plan, each with its own queries (data parallel)."""
    devices: float
    """Devices reserved, idle ones included."""

    @property
    def active(self) -> Floats:
        """Replicas that have a query to work on."""
        return np.minimum(self.concurrency, self.replicas)


def figures(stages: tuple[StageResult, ...], deployment: Deployment) -> Figures:
    """Return every figure of N designs.

    Args:
        stages: Of one replica, in the order in which a token passes them; they follow one another.
        deployment: The system around them, and the load.
    """
    first = stages[0].costs.given
    times = _times(stages, deployment)
    work = _work(stages, times, deployment)
    energy = _energy(stages, times, deployment)
    power = _power(stages, times, energy, deployment, peak=work["peak_flops_per_s"])
    money = _money(first.machine, times, power, deployment)
    useful = {
        "programmability": score(first.machine),
        "update_s": None if first.machine.program is None else first.machine.program.update_s,
    }
    values = {**times, **work, **power, **money, **useful, "short_bytes": _short_bytes(stages)}
    _derive(values, first.table)
    _check_finite(values, first)
    return Figures(
        values=values, energy_j=energy, feasibility=feasibility(stages), stages=stages,
        deployment=deployment,
    )  # fmt: skip


def _times(stages: tuple[StageResult, ...], deployment: Deployment) -> dict[str, Floats | None]:
    own, generated = deployment.own, float(stages[0].costs.given.table.output_tokens)
    micro_batches = own / stages[0].costs.given.concurrency
    prefill = _sum([stage.prefill.seconds for stage in stages])
    slot = _largest([stage.prefill_slot_s for stage in stages])
    chunks = stages[0].costs.given.table.chunks
    if chunks > 1.0:  # the chunks of a prompt follow one another through the stages
        prefill = prefill / chunks + (1.0 - 1.0 / chunks) * np.minimum(slot, prefill)
    through = _sum([stage.decode.seconds for stage in stages])
    slowest = _largest([stage.decode.seconds / stage.copies for stage in stages])
    decode = np.maximum(through, micro_batches * slowest)
    decode = decode - saved_by_mixing(stages, own)
    first = stages[0].costs.given
    together = 1.0 if first.prompts is None else first.prompts
    waits = steady(
        Load(
            own=own, prompt_s=prefill, slot_s=slot, step_s=decode / max(generated - 1.0, 1.0),
            prompt_tokens=float(first.table.prompt_tokens - first.table.cached_tokens),
            cached_tokens=float(first.table.cached_tokens), output_tokens=generated,
            runtime=first.runtime, together=first.prompts,
        )
    )  # fmt: skip
    rate = deployment.active * own / waits.query_s
    return {
        "prefill_s": prefill,
        "prefills_s": together * prefill + (own - together) * slot,
        "decode_s": decode,
        "ttft_s": waits.ttft_s,
        "tpot_s": waits.tpot_s,
        "query_s": waits.query_s,
        "queries_per_s": rate,
        "throughput_tokens_per_s": rate * generated,
    }


def _short_bytes(stages: tuple[StageResult, ...]) -> Floats:
    """Return the memory that the fullest device lacks, shape (N,); zero where all fit."""
    short = [stage.memory.total - stage.memory.capacity for stage in stages]
    lacking: Floats = np.maximum(_largest(short), 0.0)
    return lacking


def _sum(of_stages: list[Floats]) -> Floats:
    """Return the sum over stages, shape (N,)."""
    return of_stages[0] if len(of_stages) == 1 else sum_rows(of_stages)


def _largest(of_stages: list[Floats]) -> Floats:
    """Return the largest of the stages, shape (N,)."""
    if len(of_stages) == 1:
        return of_stages[0]
    largest: Floats = np.maximum.reduce(of_stages)
    return largest


def _known(values: Mapping[str, Floats | None], name: str) -> Floats:
    value = values[name]
    if value is None:
        raise ValueError(f"{name} is needed and has no value")
    return value


def main_product(stages: tuple[StageResult, ...]) -> Product | None:
    """Return the product that most GEMM work runs as: its format rates the peak."""
    work: dict[tuple[str, str], float] = {}
    for stage in stages:
        rows = stage.costs.given.table.gemm
        own = stage.costs.given.memo.of(rows, "macs by format", partial(_macs_by_format, rows))
        for pair, macs in own.items():
            work[pair] = work.get(pair, 0.0) + macs * stage.devices
    if not work:
        return None
    return resolve(stages[0].costs.given.machine, *max(work, key=lambda pair: work[pair]))


def _macs_by_format(rows: GemmTable) -> dict[tuple[str, str], float]:
    """Return the multiply-accumulates of one query's GEMMs by the formats that they multiply."""
    visits = np.where(rows.experts == 0, 1.0, rows.experts_per_token)
    macs = rows.rows * visits * rows.k * rows.n * rows.executions
    found: dict[tuple[str, str], float] = {}
    for pair, count in zip(zip(rows.a_formats, rows.b_formats, strict=True), macs, strict=True):
        found[pair] = found.get(pair, 0.0) + float(count)
    return found


def _work(
    stages: tuple[StageResult, ...], times: Mapping[str, Floats | None], deployment: Deployment
) -> dict[str, Floats | None]:
    given = stages[0].costs.given
    table, concurrency, devices = given.table, given.concurrency, deployment.devices
    rate = _known(times, "queries_per_s")
    ideal = dict(zip(PHASES, _at_peak(stages, "ideal_s"), strict=True))
    executed = dict(zip(PHASES, _at_peak(stages, "executed_s"), strict=True))
    product = main_product(stages)
    peak = None if product is None else 2.0 * product.peak_macs_per_s * devices
    decode = _known(times, "decode_s")
    prefills = _known(times, "prefills_s")
    # Device-seconds that active replicas reserve while `own` queries go through.
    own_devices = devices / deployment.active
    micro_batches = deployment.own / concurrency
    has_decode = table.output_tokens > 1
    return {
        "delivered_flops_per_s": table.useful_flops * rate,
        "peak_flops_per_s": peak,
        "mfu.prefill": ideal[Phase.PREFILL] * deployment.own / (own_devices * prefills),
        "mfu.decode": (
            ideal[Phase.DECODE] * micro_batches / (own_devices * decode) if has_decode else None
        ),
        "mfu.query": (ideal[Phase.PREFILL] + ideal[Phase.DECODE] / concurrency) * rate / devices,
        "hfu": (executed[Phase.PREFILL] + executed[Phase.DECODE] / concurrency) * rate / devices,
        "mbu": _mbu(stages, decode, deployment) if has_decode else None,
    }


def _at_peak(stages: tuple[StageResult, ...], figure: str) -> Floats:
    """Return the device-seconds at peak of one query's passes by phase, shape (2, N).

    Args:
        stages: The stages.
        figure: `ideal_s` for the useful work, `executed_s` for all that is executed.
    """
    total: Floats = getattr(stages[0].costs, figure) * stages[0].devices
    for stage in stages[1:]:
        total = total + getattr(stage.costs, figure) * stage.devices
    return total


def _mbu(stages: tuple[StageResult, ...], decode: Floats, deployment: Deployment) -> Floats:
    """Return compulsory bytes / (bandwidth of all memory x time) of decode: weights once a step, KV.

    A micro-batch reads the weights anew; what lives on chip for good is read from there.
    """
    fetched, possible = np.zeros(decode.shape), np.zeros(decode.shape)
    for stage in stages:
        memory = stage.costs.given.machine.levels[0]
        peak = memory.instances * memory.read_bytes_per_s
        possible = possible + peak * stage.devices * stage.copies
        needed = stage.costs.compulsory_bytes[PHASES.index(Phase.DECODE)]
        fetched = fetched + needed * stage.devices
    micro_batches = deployment.own / stages[0].costs.given.concurrency
    busy: Floats = fetched * micro_batches / (possible * decode)
    return busy * deployment.active / deployment.replicas


def _energy(
    stages: tuple[StageResult, ...], times: Mapping[str, Floats | None], deployment: Deployment
) -> dict[str, Floats | None]:
    """Return the energy of one query by component, at the system's DC input."""
    own, rate = stages[0].costs.given.concurrency, _known(times, "queries_per_s")
    result: dict[str, Floats | None] = {}
    for stage in stages:
        machine = stage.costs.given.machine
        lost = 1.0 / machine.power.regulator_efficiency - 1.0
        parts = _dynamic(stage, own)
        reserved = stage.devices * stage.copies * deployment.replicas
        static = static_power(machine)
        parts["static"] = (
            None if static is None else static * reserved / rate - _slowed_j(stage, own)
        )
        for name, joules in parts.items():
            _add(result, name, joules)
            _add(result, "regulators", None if joules is None else joules * lost)
        _add(result, "board", machine.power.board_w * reserved / rate)
    host = deployment.system.host_w
    _add(result, "host", None if host is None else host / rate)
    return result


def _slowed_j(stage: StageResult, own: Floats) -> Floats:
    """Return the static energy of one query that a clock below the nominal one saves, (N,)."""
    prefill, decode = stage.prefill, stage.decode
    saved: Floats = prefill.saved_w * prefill.seconds + decode.saved_w * decode.seconds / own
    return saved * stage.devices


def _dynamic(stage: StageResult, own: Floats) -> dict[str, Floats | None]:
    """Return the dynamic energy of one query on all devices of a stage, by component."""
    parts: dict[str, Floats | None] = {}
    for phase, share in ((stage.prefill, None), (stage.decode, own)):
        for name, joules in phase.energy_j.items():
            each = joules if joules is None or share is None else joules / share
            _add(parts, name, None if each is None else each * stage.devices)
    return parts


def _add(parts: dict[str, Floats | None], name: str, joules: Floats | None) -> None:
    """Add to a component; what is unknown stays unknown."""
    before = parts.get(name)
    if joules is None or (name in parts and before is None):
        parts[name] = None
    else:
        parts[name] = joules if before is None else before + joules


def _power(
    stages: tuple[StageResult, ...], times: Mapping[str, Floats | None],
    energy: Mapping[str, Floats | None], deployment: Deployment, *, peak: Floats | None,
) -> dict[str, Floats | None]:  # fmt: skip
    rate = _known(times, "queries_per_s")
    query = total_energy(energy)
    mean = None if query is None else query * rate
    full = full_load_power(stages, deployment)
    return {
        "query_j": query,
        "mean_w": mean,
        "peak_w": _peak_power(stages, deployment),
        "full_load_w": full,
        "w_per_pflops.peak": None if full is None or peak is None else full / (peak / 1e15),
    }


def _at_input(machine: MachineTable, watts: Floats, devices: float) -> Floats:
    """Return the power at the system's DC input of devices that draw `watts` together."""
    total: Floats = watts / machine.power.regulator_efficiency + machine.power.board_w * devices
    return total


def _peak_power(stages: tuple[StageResult, ...], deployment: Deployment) -> Floats | None:
    """Return the power when all replicas are in the hungrier phase, shape (N,)."""
    host = deployment.system.host_w
    if host is None:
        return None
    totals: list[Floats] = []
    for name in ("prefill", "decode"):
        total = np.full(stages[0].costs.given.machine.length, host)
        for stage in stages:
            phase: PhasePower = getattr(stage, name)
            static = static_power(stage.costs.given.machine)
            dynamic = phase.dynamic_j
            if dynamic is None:
                dynamic = None if phase.energy_j else np.zeros(total.shape)
            if static is None or dynamic is None:
                return None
            seconds = np.where(phase.seconds > 0, phase.seconds, np.inf)
            # Each micro-batch keeps one copy of a stage busy; the others draw static power.
            in_flight = deployment.own / stage.costs.given.concurrency
            busy = np.minimum(in_flight, stage.copies) * (dynamic / seconds - phase.saved_w)
            drawn = (busy + static * stage.copies) * stage.devices
            board = stage.devices * stage.copies * deployment.replicas
            total = total + _at_input(stage.costs.given.machine, drawn * deployment.replicas, board)
        totals.append(total)
    return np.maximum(*totals)


def full_load_power(stages: tuple[StageResult, ...], deployment: Deployment) -> Floats | None:
    """Return the power with every device at its cap or, without one, at full rate everywhere.

    Full rate: the main GEMM format at peak, every storage level at its bandwidth, static power.
    """
    host = deployment.system.host_w
    if host is None:
        return None
    total = np.full(stages[0].costs.given.machine.length, host)
    for stage in stages:
        machine = stage.costs.given.machine
        watts = machine.power.cap_w
        if watts is None:
            watts = _full_rate(stage)
        if watts is None:
            return None
        reserved = stage.devices * stage.copies * deployment.replicas
        total = total + _at_input(machine, watts * reserved, reserved)
    return total


def _full_rate(stage: StageResult) -> Floats | None:
    machine = stage.costs.given.machine
    product = main_product((stage,))
    static = static_power(machine)
    if product is None or product.mac_j is None or static is None:
        return None
    watts = static + product.peak_macs_per_s * product.mac_j
    for level in machine.levels:
        if level.read_j_per_byte is None:
            return None
        watts = watts + level_bandwidth(level) * level.read_j_per_byte
    return watts


def _money(
    machine: MachineTable, times: Mapping[str, Floats | None], power: Mapping[str, Floats | None],
    deployment: Deployment,
) -> dict[str, Floats | None]:  # fmt: skip
    system = deployment.system
    devices = max(
        deployment.devices, float(system.devices)
    )  # those without work are bought as well
    host = system.host_usd
    price, parts = machine.cost.price_usd, machine.cost.parts_usd
    system_usd = None if price is None or host is None else devices * price + host
    bom = None
    if parts and host is not None:
        each = machine.cost.once("bill of material", lambda: sum_rows(list(parts.values())))
        bom = devices * each + host
    owned = _owned(system_usd, _known(times, "queries_per_s"), power, deployment)
    return {"system_usd": system_usd, "bom_usd": bom, **owned}


def _owned(
    system_usd: Floats | None, rate: Floats, power: Mapping[str, Floats | None],
    deployment: Deployment,
) -> dict[str, Floats | None]:  # fmt: skip
    """Return the cost of a query and its parts; without work a system draws no power."""
    names = ("system", "facility", "energy", "operation")
    economics, mean, full = deployment.economics, power["mean_w"], power["full_load_w"]
    if system_usd is None or mean is None:
        return dict.fromkeys(("query_usd", *(f"tco.{name}" for name in names)))
    at_wall = 1.0 / deployment.system.supply_efficiency
    cost = ownership_cost(
        Ownership(
            system_usd=system_usd, provisioned_w=None if full is None else full * at_wall,
            mean_w=mean * at_wall * economics.utilization, queries_per_s=rate,
            utilization=economics.utilization,
        ),
        OwnershipTerms(
            life_s=economics.life_years * SECONDS_PER_YEAR, pue=economics.pue,
            usd_per_j=economics.usd_per_kwh / J_PER_KWH,
            facility_usd_per_w=economics.facility_usd_per_w,
            facility_life_s=economics.facility_life_years * SECONDS_PER_YEAR,
            operation_usd_per_w_s=economics.operation_usd_per_w_year / SECONDS_PER_YEAR,
            operation_per_s=economics.operation_share_per_year / SECONDS_PER_YEAR,
        ),
    )  # fmt: skip
    per_s = (
        cost.system_usd_per_s, cost.facility_usd_per_s, cost.energy_usd_per_s,
        cost.operation_usd_per_s,
    )  # fmt: skip
    parts = {
        f"tco.{name}": None if usd is None else np.asarray(usd / cost.queries_per_s)
        for name, usd in zip(names, per_s, strict=True)
    }
    total = cost.usd_per_query
    return {"query_usd": None if total is None else np.asarray(total), **parts}


def _check_finite(values: Mapping[str, Floats | None], given: StageInput) -> None:
    """Raise a `CostError` when a figure of the whole query overflows."""
    known = [column for column in values.values() if column is not None]
    if given.machine.length <= FEW_DESIGNS and not np.isinf(np.concatenate(known)).any():
        return
    for name, column in values.items():
        if column is not None and np.isinf(column).any():
            raise CostError(
                figure=name, operator="all, for a whole query", machine=given.machine.name,
                value=float(column[np.isinf(column)][0]),
            )  # fmt: skip


def _derive(values: dict[str, Floats | None], table: OperatorTable) -> None:
    """Add figures that follow from others."""
    delivered, mean, query = values["delivered_flops_per_s"], values["mean_w"], values["query_j"]
    values["w_per_pflops.delivered"] = (
        None if mean is None or delivered is None else mean / (delivered / 1e15)
    )
    values["j_per_token"] = None if query is None else query / table.output_tokens
