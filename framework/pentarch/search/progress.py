"""Progress of a search, as handed to whoever shows it after each commit."""

from collections.abc import Callable
from dataclasses import dataclass

from pentarch.contracts.figures import show_margin
from pentarch.results import TargetId, Trial, VerdictKind
from pentarch.search.answer import nearness


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is; everything in it is committed to the run log."""

    done: int
    """Trials finished."""
    total: int
    """Trials wanted."""
    feasible: int
    """Trials that meet all five targets."""
    targets_met: int | None
    """Targets that the nearest design so far meets; `None` while none can run."""
    margin: float | None
    """Its least margin; `None` when unknown."""
    binding: str | None
    """Its target with the least margin or, if it has one, with an unknown verdict."""
    seconds_left: float | None
    """Estimate of the remaining time; `None` before the first trial."""
    log: str
    """Path or URL of the run log."""

    @property
    def state(self) -> str:
        """What the nearest design so far achieves, as text."""
        if self.targets_met is None:
            return "no design can run yet"
        met = f"best meets {self.targets_met} of {len(TargetId)} targets"
        return f"{met}, least margin {show_margin(self.margin)} ({self.binding})"

    def line(self) -> str:
        """Return one line of text."""
        parts = [f"{self.done}/{self.total} trials", self.state]
        if self.seconds_left is not None:
            parts.append(f"{self.seconds_left:.0f} s left")
        return ", ".join(parts)


ShowProgress = Callable[[Progress], None]
"""Called after every commit."""


class ProgressTracker:
    """Follows the nearest design of a search.

    Args:
        total: Trials wanted.
        log: Path or URL of the run log.
    """

    def __init__(self, *, total: int, log: str) -> None:
        self._total = total
        self._log = log
        self._done = 0
        self._feasible = 0
        self._leader: Trial | None = None

    def add(self, trial: Trial) -> None:
        """Take a finished trial into account."""
        self._done += 1
        self._feasible += trial.meets_all
        if trial.feasible and (self._leader is None or nearness(trial) < nearness(self._leader)):
            self._leader = trial

    def progress(self, *, seconds: float, fresh: int) -> Progress:
        """Return the state.

        Args:
            seconds: Time spent since the start of this process's share.
            fresh: Trials finished in that time.
        """
        leader = self._leader
        met = None
        if leader is not None:
            met = sum(kind is VerdictKind.MET for kind in leader.verdicts.values())
        return Progress(
            done=self._done, total=self._total, feasible=self._feasible, targets_met=met,
            margin=None if leader is None else leader.least_margin,
            binding=None if leader is None else leader.binding,
            seconds_left=(self._total - self._done) * seconds / fresh if fresh else None,
            log=self._log,
        )  # fmt: skip
