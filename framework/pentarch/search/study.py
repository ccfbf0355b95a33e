"""The loop of a search: propose a batch, evaluate it in slices, commit, report, go on."""

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from pentarch.errors import RunLogError
from pentarch.evaluate.points import PointEvaluator
from pentarch.results import Trial
from pentarch.search.objectives import Objective
from pentarch.search.progress import ProgressTracker, ShowProgress
from pentarch.search.records import Outcome, Proposal, Record, outcomes, point_key
from pentarch.search.runlog import RunLog
from pentarch.search.space import SamplerSettings, Space

COMMIT_SECONDS = 1.0
"""Time that evaluating one slice should take; a slice is committed at once, so that commits are
less than two seconds apart wherever a single design is not slower than that."""
FIRST_SLICE = 8
"""Designs of the first slice, before it is known how long a design takes."""

Clock = Callable[[], float]


class Proposer(Protocol):
    """What decides which designs are tried."""

    def propose(self, batch: int, count: int) -> list[Proposal]:
        """Return the next designs; fewer than `count` when there are no more."""

    def learn(self, proposal: Proposal, outcome: Outcome) -> dict[str, Any]:
        """Take an outcome into account and return what is remembered of it."""

    def replay(self, records: Sequence[Record], state: Mapping[str, Any]) -> None:
        """Start from the trials of a log."""

    def state(self) -> dict[str, Any]:
        """Return what is remembered beside the trials."""


@dataclass(frozen=True, slots=True)
class StudySetup:
    """What determines a run."""

    space: Space
    """The design space."""
    objectives: tuple[Objective, ...]
    """Figures to improve, directions resolved."""
    settings: SamplerSettings
    """Strategy and population."""
    seed: int
    """Seed of the run."""
    batch: int
    """Designs asked at once."""
    trials: int
    """Trials in total, earlier starts of the run included."""
    evaluator: PointEvaluator
    """Evaluates designs."""


class Interruption:
    """Turns the first Ctrl-C into a wish to stop; the second one interrupts as usual.

    Signals reach Python's main thread only; in another thread nothing is changed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):
                self._previous = previous
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            self._previous(number, frame)
        self.requested = True


class Pacer:
    """Chooses slices so that each takes about `COMMIT_SECONDS`.

    Sizes are powers of two, so that small differences in speed do not change them. An evaluator
    has to give a design the same figures in whatever company it is evaluated; only then are two
    runs equal to the last bit whatever the speed of the machine.
    """

    def __init__(self) -> None:
        self._seconds_per_design: float | None = None

    def size(self) -> int:
        """Return how many designs the next slice should have."""
        if self._seconds_per_design is None:
            return FIRST_SLICE
        fitting = max(1, int(COMMIT_SECONDS / max(self._seconds_per_design, 1e-9)))
        return 1 << (fitting.bit_length() - 1)

    def measured(self, *, designs: int, seconds: float) -> None:
        """Note how long a slice took."""
        self._seconds_per_design = seconds / max(designs, 1)


class Study:
    """A run in progress.

    Designs equal to earlier ones are not evaluated again; they are trials all the same, because
    the sampler has to be told.

    Args:
        setup: What determines the run.
        log: Where trials are committed.
        run: Number of the run in the log.
        show: Called after every commit.
        clock: Seconds since any fixed time.
    """

    def __init__(
        self,
        setup: StudySetup,
        *,
        log: RunLog,
        run: int,
        show: ShowProgress | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.trials: list[Trial] = []
        self._setup = setup
        self._log = log
        self._run = run
        self._show = show
        self._clock = clock
        self._memo: dict[tuple[Any, ...], Outcome] = {}
        self._remembers = setup.settings.strategy != "exhaustive"
        self._tracker = ProgressTracker(total=setup.trials, log=log.target)
        self._pacer = Pacer()
        self._begun = clock()
        self._fresh = 0

    def run(self, history: Sequence[Record], state: Mapping[str, Any]) -> str:
        """Run until enough trials are done, the space is exhausted or the user interrupts.

        Args:
            history: Trials of earlier starts.
            state: What the proposer remembered then.

        Returns:
            Why it stopped, as in `StudyResult.stopped_by`.
        """
        with Interruption() as interruption:
            try:
                return self._loop(history, state, interruption)
            except KeyboardInterrupt:
                return "interrupt"

    @property
    def seconds(self) -> float:
        """Wall time since the study was made."""
        return self._clock() - self._begun

    def _loop(
        self, history: Sequence[Record], state: Mapping[str, Any], interruption: Interruption
    ) -> str:
        for record in history:
            self._keep(record)
        if len(history) >= self._setup.trials:
            return self._end()
        proposer, pending = self._restored(history, state)
        while True:
            done = len(self.trials)
            if pending is None:
                if done >= self._setup.trials:
                    return self._end()
                start = done // self._setup.batch * self._setup.batch
                wanted = min(start + self._setup.batch, self._setup.trials) - done
                pending = proposer.propose(done // self._setup.batch, wanted)
                if not pending:
                    return "exhausted"
            while pending:
                slice_, pending = self._slice(pending)
                self._advance(proposer, slice_)
                if interruption.requested:
                    return "interrupt"
            pending = None

    def _end(self) -> str:
        is_whole = (
            self._setup.settings.strategy == "exhaustive"
            and len(self.trials) == self._setup.space.size
        )
        return "exhausted" if is_whole else "trials"

    def _restored(
        self, history: Sequence[Record], state: Mapping[str, Any]
    ) -> tuple[Proposer, list[Proposal] | None]:
        """Return a proposer that knows the history, and what is left of a batch cut short.

        That batch is asked again as a whole, so that the rest of it is what it would have been.
        Should the sampler propose something else now (another version of it), the trials of the
        log are kept as they are and the run goes on from there.
        """
        batch = self._setup.batch
        whole = len(history) // batch * batch
        proposer = make_proposer(self._setup)
        proposer.replay(history[:whole], state)
        cut = list(history[whole:])
        if not cut:
            return proposer, None
        count = min(batch, self._setup.trials - whole)
        proposals = proposer.propose(whole // batch, count)
        if proposals[: len(cut)] == [record.proposal for record in cut]:
            for record in cut:
                proposer.learn(record.proposal, record.outcome)
            return proposer, proposals[len(cut) :]
        if self._setup.settings.strategy == "exhaustive":
            raise RunLogError(
                f"{self._log.target}: this pentarch enumerates the designs of the space in "
                "another order than the log has them. Start a new run without --resume."
            )
        proposer = make_proposer(self._setup)
        proposer.replay(history, {})
        return proposer, proposer.propose(whole // batch, count - len(cut))

    def _slice(self, proposals: list[Proposal]) -> tuple[list[Proposal], list[Proposal]]:
        """Return proposals with as many new designs as a slice should have, and the rest."""
        wanted = self._pacer.size()
        new: set[tuple[Any, ...]] = set()
        for index, proposal in enumerate(proposals):
            key = point_key(proposal.point)
            if key not in self._memo:
                new.add(key)
            if len(new) > wanted:
                return proposals[:index], proposals[index:]
        return proposals, []

    def _advance(self, proposer: Proposer, proposals: Sequence[Proposal]) -> None:
        found = self._evaluated(proposals)
        records = [
            Record(
                proposal=proposal, outcome=outcome, system_attrs=proposer.learn(proposal, outcome)
            )
            for proposal, outcome in zip(proposals, found, strict=True)
        ]
        self._log.append(self._run, records, proposer.state())
        for record in records:
            self._keep(record)
        self._fresh += len(records)
        if self._show is not None:
            self._show(self._tracker.progress(seconds=self.seconds, fresh=self._fresh))

    def _evaluated(self, proposals: Sequence[Proposal]) -> list[Outcome]:
        keys = [point_key(proposal.point) for proposal in proposals]
        new = {
            key: proposal.point
            for key, proposal in zip(keys, proposals, strict=True)
            if key not in self._memo
        }
        known = {key: self._memo[key] for key in keys if key in self._memo}
        if new:
            points = list(new.values())
            begun = self._clock()
            results = self._setup.evaluator.evaluate(points)
            self._pacer.measured(designs=len(points), seconds=self._clock() - begun)
            known.update(zip(new, outcomes(points, results, self._setup.objectives), strict=True))
        return [known[key] for key in keys]

    def _keep(self, record: Record) -> None:
        if self._remembers:
            self._memo[point_key(record.proposal.point)] = record.outcome
        trial = record.trial()
        self.trials.append(trial)
        self._tracker.add(trial)


def make_proposer(setup: StudySetup) -> Proposer:
    """Return the proposer that the settings name."""
    if setup.settings.strategy == "exhaustive":
        from pentarch.search.grid import GridProposer

        return GridProposer(setup.space)
    from pentarch.search.sampling import OptunaProposer

    return OptunaProposer(setup.space, setup.objectives, settings=setup.settings, seed=setup.seed)
