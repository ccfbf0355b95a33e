"""One stage, costed and held to its power cap."""

from dataclasses import dataclass
from functools import partial

from pentarch.evaluate.memory import MemoryUse
from pentarch.evaluate.power import PhaseLoad, PhasePower, cap_phase
from pentarch.evaluate.stage_costs import PHASES, StageCosts
from pentarch.graph.operators import Phase
from pentarch.hardware.columns import Floats


@dataclass(frozen=True, slots=True, eq=False)
class StageResult:
    """One stage, costed and capped."""

    costs: StageCosts
    """Rows and their costs."""
    memory: MemoryUse
    """What has to fit."""
    prefill: PhasePower
    """Prefill of one query."""
    decode: PhasePower
    """All decode steps of one query's generation, C queries wide."""
    devices: float
    """Devices that run one of its equal copies side by side."""
    copies: float
    """Equal copies in sequence; times and energies of the rows count all of them."""

    @property
    def prefill_slot_s(self) -> Floats:
        """Time for which one prefill keeps another out of one copy of the stage, shape (N,).

        The whole time or, where the back-end overlaps passes, the interval between them.
        """
        slot = self.prefill.seconds / self.copies
        segment = self.costs.segments.get(Phase.PREFILL)
        return slot if segment is None else slot * (segment.interval_s / segment.pass_s)


def run_stage(
    costs: StageCosts,
    memory: MemoryUse,
    *,
    devices: float,
    copies: float = 1.0,
    is_first: bool = True,
) -> StageResult:
    """Cap the phases of a costed stage.

    Args:
        costs: Its rows.
        memory: What its devices hold.
        devices: Devices of one copy.
        copies: Equal copies in sequence.
        is_first: Whether a forward pass begins here: its fixed time is counted once.
    """
    machine, runtime = costs.given.machine, costs.given.runtime
    once = 1.0 if is_first else 0.0
    step = (machine.overhead.step_s + runtime.step_s) * once
    each = runtime.sequence_s * once * costs.given.concurrency
    shared = 1.0 if costs.given.prompts is None else costs.given.prompts
    steps = {Phase.PREFILL: step / shared, Phase.DECODE: step + each}
    phases = {
        phase: cap_phase(
            PhaseLoad(
                busy_s=costs.busy_s(phase), step_s=steps[phase] * costs.passes(phase),
                energy_j=costs.phase_energy(phase), stack=partial(costs.stack, phase),
            ),
            machine,
        )
        for phase in PHASES
    }  # fmt: skip
    return StageResult(
        costs=costs, memory=memory, prefill=phases[Phase.PREFILL], decode=phases[Phase.DECODE],
        devices=devices, copies=copies,
    )  # fmt: skip
