"""Waiting of queries for each other in a closed loop (definitions.md, Serving, closed form).

Identical queries on one replica: C are in flight, each is replaced when it ends. A pass decodes for
all running queries and, by the stack's scheduler, processes prompts that wait. With t_p the time of
a prompt alone, s what a further prompt adds, t_d the time of a decode step of all C and T tokens
generated, the work of C queries fills the time of one:

    n     = T - 1 + passes of others that a query waits for before its first token
    TPOT  = t_d + (C - 1) s / n        what the others' prompts add to a pass, on average
    TTFT  = t_p + (n - T + 1) TPOT     the pass in flight, and what shares the prompt's own pass
    query = TTFT + (T - 1) TPOT

Queries end at any phase of the others here, as they do where lengths differ. `burst_s` is the mean
where all C begin at once, `in_step_s` where equal lengths keep in step what began together.
"""

from dataclasses import dataclass

import numpy as np

from pentarch.hardware.columns import Floats
from pentarch.hardware.runtime import Runtime, Scheduler


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """What one replica has to do; arrays of shape (N,)."""

    own: Floats
    """Queries in flight, C."""
    prompt_s: Floats
    """Time of one prompt through all stages, t_p."""
    slot_s: Floats
    """Time for which a prompt keeps another out, s."""
    step_s: Floats
    """Time of a decode step of all queries, t_d; 0 where nothing is decoded."""
    prompt_tokens: float
    """Prompt tokens that are processed, P."""
    output_tokens: float
    """Tokens generated, T."""
    runtime: Runtime
    """The stack, whose scheduler decides."""
    cached_tokens: float = 0.0
    """Prompt tokens that need no processing."""
    together: Floats | None = None
    """Prompts that a static batch takes through one pass, in which `prompt_s` and `slot_s` are the
    share of one; `None` for all C."""

    @property
    def others(self) -> Floats:
        """Other queries in flight, C - 1, shape (N,)."""
        found: Floats = self.own - 1.0
        return found

    @property
    def share(self) -> Floats:
        """Prompts that fit into one pass, less than 1 where a prompt takes several, (N,)."""
        runtime, found = self.runtime, np.ones(self.own.shape)
        if runtime.scheduler is Scheduler.SERIAL:
            return found
        if runtime.scheduler is Scheduler.STATIC:
            return self.own if self.together is None else self.together
        if runtime.step_tokens is None:
            return np.maximum(self.own, 1.0)
        room = np.full(self.own.shape, float(runtime.step_tokens))
        if runtime.scheduler is Scheduler.MIXED:  # those that decode take one token each
            room = np.maximum(room - self.others, 1.0)
        return np.asarray(room / self.prompt_tokens)

    @property
    def host_s(self) -> float:
        """Host time of a query before its first pass."""
        tokens = self.prompt_tokens + self.cached_tokens
        return self.runtime.request_s + tokens * self.runtime.prompt_token_s


@dataclass(frozen=True, slots=True, eq=False)
class Waits:
    """Latencies of one query, shape (N,)."""

    ttft_s: Floats
    """Until the first token."""
    tpot_s: Floats | None
    """Between later tokens; `None` where there are none."""
    query_s: Floats
    """Until the last token."""


def steady(load: Load) -> Waits:
    """Return the latencies of a loop whose queries end at any phase of each other.

    A static batch has all prompts first. A serial scheduler starts a prompt as soon as those ahead
    are through. With mixed passes a query
    waits for the pass in flight when it arrives and shares its own with others. Where C prompts do
    not fit into the passes of one query's decode, full passes set the pace and the rest waits.
    """
    runtime, decoded = load.runtime, load.output_tokens - 1.0
    if runtime.scheduler is Scheduler.STATIC:
        first = load.share * load.prompt_s + (load.own - load.share) * load.slot_s
        return _waits(first + load.host_s, load.step_s, decoded)
    if runtime.scheduler is Scheduler.SERIAL:
        delay = load.others * load.slot_s / load.output_tokens
        whole = load.prompt_s + load.others * load.slot_s + load.step_s * decoded + load.host_s
        pace = load.step_s + delay if decoded > 0.0 else None
        return Waits(load.prompt_s + delay + load.host_s, pace, whole)
    is_mixed = runtime.scheduler is Scheduler.MIXED
    busy = np.minimum(load.others, 1.0)
    share = load.share
    parts = np.maximum(1.0 / share - 1.0, 0.0) if is_mixed else np.zeros(share.shape)
    ahead = busy * ((2.0 if is_mixed else 1.0) + parts)
    passes = decoded + ahead
    pace = load.step_s + load.others * load.slot_s / np.maximum(passes, 1.0)
    first = load.prompt_s + ahead * pace
    full = load.own / share
    is_full = (full > passes) & (load.others > 0.0)
    if is_mixed and is_full.any():
        packed = load.step_s + share * load.slot_s
        pace = np.where(is_full, packed, pace)
        first = np.where(is_full, np.maximum(first, (full - decoded) * packed), first)
    return _waits(first + load.host_s, pace, decoded)


def _waits(first: Floats, pace: Floats, decoded: float) -> Waits:
    if decoded <= 0.0:
        return Waits(first, None, first)
    return Waits(first, pace, np.asarray(first + decoded * pace))


def burst_s(load: Load) -> Floats:
    """Return the mean time to the first token where all C queries begin at once, shape (N,).

    They leave in groups of as many as one pass holds; between two groups the earlier ones decode,
    unless prompts go first.
    """
    together = np.minimum(np.maximum(load.share, 1.0), load.own)
    groups = np.ceil(load.own / together)
    last = load.own - (groups - 1.0) * together
    # Group j of g ends when j groups are through: the mean position of a prompt's group end.
    ends = (together**2 * groups * (groups - 1.0) / 2.0 + last * load.own) / load.own
    decodes = np.zeros(load.own.shape)
    if load.runtime.scheduler is not Scheduler.PREFILL_FIRST:
        turns = together * (groups - 1.0) * (groups - 2.0) / 2.0 + last * (groups - 1.0)
        decodes = turns / load.own * load.step_s
    found: Floats = load.prompt_s + (ends - 1.0) * load.slot_s + decodes + load.host_s
    return found


def in_step_s(load: Load) -> Floats:
    """Return the mean time to the first token where queries of equal length keep in step, (N,).

    What one pass takes in ends in one pass and begins anew together. Where prompts go first, all C
    start to decode together and so come back together: every round is a burst. With mixed passes a
    group comes back while the one before it is in its pass, if there is one.
    """
    if load.runtime.scheduler is not Scheduler.MIXED:
        return burst_s(load)
    together = np.minimum(np.maximum(load.share, 1.0), load.own)
    waits = 1.0 - together / load.own
    found: Floats = (
        load.prompt_s + (together - 1.0) * load.slot_s + waits * together * load.slot_s
        + np.minimum(load.others, 1.0) * load.step_s + load.host_s
    )  # fmt: skip
    return found
