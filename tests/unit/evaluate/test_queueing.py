"""Waiting in a closed loop, against a simulation of every pass and against limits."""

import heapq
import random
from collections import deque
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np
import pytest

import pentarch as pa
from pentarch.catalog import default_library
from pentarch.evaluate.ledger import WAITING
from pentarch.evaluate.queueing import Load, Waits, burst_s, in_step_s, steady
from pentarch.evaluate.scenario import build_evaluator
from pentarch.hardware.runtime import Runtime, Scheduler
from pentarch.targets import Economics, Targets
from pentarch.workload.query import Query

PREFILL_S, STEP_S = 0.034, 0.010


@dataclass
class _Query:
    arrived: float
    prompt: int
    left: int
    output: int
    first: float = 0.0


class _Engine:
    """Passes of one replica, one after the other; clients answer within 1 to 3 ms."""

    def __init__(self, load: Load, *, clients: int, rounds: int, least: float) -> None:
        self.load, self.least, self.draws = load, least, random.Random(7)
        self.clients, self.total = clients, rounds * clients
        self.arrivals: list[tuple[float, int, int, int]] = []
        self.sent = 0
        self.ttft: list[float] = []
        self.tpot: list[float] = []

    def _send(self, at: float) -> None:
        if self.sent < self.total:
            delay = 0.001 + 0.002 * self.draws.random()
            prompt = self._length(self.load.prompt_tokens)
            output = self._length(self.load.output_tokens)
            heapq.heappush(self.arrivals, (at + delay, self.sent, prompt, output))
            self.sent += 1

    def _length(self, whole: float) -> int:
        return round(whole * (2.0 * self.draws.uniform(self.least, 1.0)) / (1.0 + self.least))

    def run(self) -> None:
        """Serve all queries; times count from when a query was sent."""
        per_token = float(self.load.slot_s[0]) / self.load.prompt_tokens
        step, budget = float(self.load.step_s[0]), self.load.runtime.step_tokens or 10**9
        is_mixed = self.load.runtime.scheduler is Scheduler.MIXED
        now, waiting, running = 0.0, deque[_Query](), list[_Query]()
        for _ in range(self.clients):
            self._send(0.0)
        while len(self.tpot) < self.total:
            while self.arrivals and self.arrivals[0][0] <= now:
                at, _, prompt, output = heapq.heappop(self.arrivals)
                waiting.append(_Query(at, prompt, prompt, output))
            if not waiting and not running:
                now = self.arrivals[0][0]
                continue
            room, done, taken = budget - (len(running) if is_mixed else 0), [], 0
            while waiting and room > 0:
                part = min(waiting[0].left, room)
                waiting[0].left -= part
                room, taken = room - part, taken + part
                if waiting[0].left == 0:
                    done.append(waiting.popleft())
            decodes = bool(running) and (is_mixed or not taken)
            now += taken * per_token + (step if decodes else 0.0)
            if decodes:
                running = self._decode(running, now)
            for query in done:
                query.first = now
                self.ttft.append(now - query.arrived + 0.001)
                query.left = query.output - 1
                running.append(query)

    def _decode(self, running: list[_Query], now: float) -> list[_Query]:
        kept = []
        for query in running:
            query.left -= 1
            if query.left > 0:
                kept.append(query)
            else:
                self.tpot.append((now - query.first) / (query.output - 1))
                self._send(now)
        return kept


def _load(scheduler: Scheduler, clients: float, **changes: float) -> Load:
    prompt, output = changes.get("prompt", 1024.0), changes.get("output", 256.0)
    tokens = changes.get("budget", 2208.0)
    runtime = Runtime(
        name="stack", scheduler=scheduler, step_tokens=None if tokens == 0 else int(tokens)
    )
    own = np.array([float(clients)])
    return Load(
        own=own, prompt_s=np.full(1, PREFILL_S), slot_s=np.full(1, PREFILL_S),
        step_s=np.full(1, STEP_S), prompt_tokens=prompt, output_tokens=output, runtime=runtime,
    )  # fmt: skip


def _simulated(load: Load, *, rounds: int, least: float) -> tuple[float, float]:
    engine = _Engine(load, clients=int(load.own[0]), rounds=rounds, least=least)
    engine.run()
    return mean(engine.ttft), mean(engine.tpot)


def _of_run(load: Load, first: float, rounds: int) -> tuple[float, float]:
    """Return TTFT and TPOT of a run whose first round is a burst."""
    waits = steady(load)
    ttft = first + (float(burst_s(load)[0]) - first) / rounds
    return ttft, (float(waits.query_s[0]) - ttft) / (load.output_tokens - 1.0)


@pytest.mark.parametrize("scheduler", [Scheduler.MIXED, Scheduler.PREFILL_FIRST])
@pytest.mark.parametrize("clients", [1, 4, 32, 96])
def test_loop_of_different_lengths_is_what_passes_add_up_to(
    scheduler: Scheduler, clients: int
) -> None:
    load = _load(scheduler, clients)
    found = _of_run(load, float(steady(load).ttft_s[0]), rounds=10)
    assert found == pytest.approx(_simulated(load, rounds=10, least=0.8), rel=0.12)
    assert found[1] == pytest.approx(_simulated(load, rounds=10, least=0.8)[1], rel=0.02)


@pytest.mark.parametrize(("scheduler", "clients"), [
    (Scheduler.MIXED, 8), (Scheduler.MIXED, 32), (Scheduler.MIXED, 96),
    (Scheduler.PREFILL_FIRST, 8), (Scheduler.PREFILL_FIRST, 32), (Scheduler.PREFILL_FIRST, 96),
])  # fmt: skip
def test_queries_of_one_length_keep_in_step(scheduler: Scheduler, clients: int) -> None:
    load = _load(scheduler, clients)
    found = _of_run(load, float(in_step_s(load)[0]), rounds=10)
    assert found == pytest.approx(_simulated(load, rounds=10, least=1.0), rel=0.1)


def test_prompts_first_make_every_round_a_burst() -> None:
    """With 32 clients in groups of 2 the mean prompt waits for 16 others, not for the next step."""
    first, mixed = (
        float(in_step_s(_load(kind, 32, budget=2048.0))[0])
        for kind in (Scheduler.PREFILL_FIRST, Scheduler.MIXED)
    )
    assert first == pytest.approx(PREFILL_S * (2 + 32) / 2)
    assert mixed < 0.3 * first


@pytest.mark.parametrize("scheduler", list(Scheduler))
def test_one_query_waits_for_nobody(scheduler: Scheduler) -> None:
    load = _load(scheduler, 1)
    waits = steady(load)
    assert waits.tpot_s is not None
    assert waits.ttft_s[0] == pytest.approx(PREFILL_S)
    assert waits.tpot_s[0] == pytest.approx(STEP_S)
    assert waits.query_s[0] == pytest.approx(PREFILL_S + 255 * STEP_S)
    assert burst_s(load)[0] == pytest.approx(PREFILL_S)
    assert in_step_s(load)[0] == pytest.approx(PREFILL_S)


def test_burst_counts_every_group_by_hand() -> None:
    """Five queries, two a pass: groups end at 2, 4 and 5 prompts, with 0, 1 and 2 decode steps."""
    load = _load(Scheduler.MIXED, 5, budget=2 * 1024 + 4)
    ends = [2, 2, 4, 4, 5]
    steps = [0, 0, 1, 1, 2]
    expected = PREFILL_S * mean(ends) + STEP_S * mean(steps)
    assert burst_s(load)[0] == pytest.approx(expected)


def test_serial_stack_fills_the_device_with_prompts_and_steps() -> None:
    """t_p 100 ms, t_d 10 ms, C = 4, T = 11: the example of the definitions."""
    load = replace(
        _load(Scheduler.SERIAL, 4, output=11.0), prompt_s=np.full(1, 0.1), slot_s=np.full(1, 0.1)
    )
    waits = steady(load)
    assert waits.tpot_s is not None
    assert waits.ttft_s[0] == pytest.approx(0.1 + 0.3 / 11)
    assert waits.tpot_s[0] == pytest.approx(0.01 + 0.3 / 11)
    assert waits.query_s[0] == pytest.approx(0.5)


@pytest.mark.parametrize("scheduler", list(Scheduler))
def test_query_is_first_token_and_all_later_ones(scheduler: Scheduler) -> None:
    for clients in (1, 2, 17, 300):
        waits = steady(_load(scheduler, clients, output=64.0))
        assert waits.tpot_s is not None
        assert waits.query_s[0] == pytest.approx(waits.ttft_s[0] + 63 * waits.tpot_s[0])


def test_full_passes_set_the_pace_when_prompts_are_many() -> None:
    """400 clients of 16 tokens, two prompts a pass: 200 passes of one step and two prompts."""
    load = _load(Scheduler.MIXED, 400, output=16.0, budget=2 * 1024 + 399)
    waits = steady(load)
    assert waits.tpot_s is not None
    a_pass = STEP_S + 2 * PREFILL_S
    assert waits.tpot_s[0] == pytest.approx(a_pass)
    assert waits.query_s[0] == pytest.approx(200 * a_pass)


def test_without_later_tokens_queries_are_prompts_in_turn() -> None:
    for scheduler in Scheduler:
        load = replace(_load(scheduler, 6, output=1.0), step_s=np.zeros(1))
        waits = steady(load)
        assert waits.tpot_s is None
        assert waits.query_s[0] == waits.ttft_s[0] == pytest.approx(6 * PREFILL_S)


def test_host_time_of_a_query_occupies_no_device() -> None:
    plain = _load(Scheduler.MIXED, 16)
    busy = plain.runtime.model_copy(update={"request_s": 0.02, "prompt_token_s": 1e-5})
    before, after = steady(plain), steady(replace(plain, runtime=busy))
    assert before.tpot_s is not None
    assert after.tpot_s is not None
    assert after.ttft_s[0] - before.ttft_s[0] == pytest.approx(0.02 + 1024 * 1e-5)
    assert after.tpot_s[0] == before.tpot_s[0]


def test_long_prompts_take_several_passes() -> None:
    """A prompt of four passes waits for three decode steps between its parts."""
    short = steady(_load(Scheduler.MIXED, 2, budget=1024 + 1))
    parts = steady(_load(Scheduler.MIXED, 2, budget=256 + 1))
    assert short.tpot_s is not None
    assert parts.ttft_s[0] - short.ttft_s[0] == pytest.approx(3 * short.tpot_s[0], rel=0.02)


@pytest.mark.parametrize("scheduler", list(Scheduler))
def test_a_batch_gives_the_bits_of_single_designs(scheduler: Scheduler) -> None:
    own = np.array([1.0, 2.0, 3.5, 64.0, 999.0])
    whole = replace(
        _load(scheduler, 1), own=own, prompt_s=own * 0.003, slot_s=own * 0.002, step_s=own * 1e-4
    )
    every = _figures(steady(whole)), burst_s(whole), in_step_s(whole)
    for index in range(len(own)):
        at = slice(index, index + 1)
        one = replace(
            whole, own=own[at], prompt_s=whole.prompt_s[at], slot_s=whole.slot_s[at],
            step_s=whole.step_s[at],
        )  # fmt: skip
        assert [column[index] for column in every[0]] == [c[0] for c in _figures(steady(one))]
        assert every[1][index] == burst_s(one)[0]
        assert every[2][index] == in_step_s(one)[0]


def _figures(waits: Waits) -> list[np.ndarray]:
    assert waits.tpot_s is not None
    return [waits.ttft_s, waits.tpot_s, waits.query_s]


def test_a_stack_with_mixed_passes_reports_the_wait_and_where_the_time_goes() -> None:
    """Llama-3-8B on one H100: alone no wait; with 64 two passes, which are a share of the time."""
    library = default_library()
    evaluator = build_evaluator(
        library=library, workload="llama-3-8b", runtime="vllm", system=library.system("h100_sxm"),
        query=Query(prompt_tokens=1024, output_tokens=256), precisions=None, partitioner="single",
        degree=None, targets=Targets(), economics=Economics(),
    )  # fmt: skip
    found = evaluator.evaluate([{"query.concurrency": 1}, {"query.concurrency": 64}]).figures
    host = library.runtime("vllm").request_s + 1024 * library.runtime("vllm").prompt_token_s
    assert found["ttft_s"][0] == pytest.approx(found["prefill_s"][0] + host)
    assert found["ttft_s"][1] == pytest.approx(
        found["prefill_s"][1] + host + 2.0 * found["tpot_s"][1]
    )
    one = evaluator.evaluation({"query.concurrency": 64})
    shares = {entry.name: entry.share for entry in one.ledger}
    assert sum(shares.values()) == pytest.approx(1.0)
    waited = 2.0 * found["decode_s"][1] / 255 + host
    assert shares[WAITING] == pytest.approx(waited / found["query_s"][1], rel=1e-6)


def test_cached_prompt_tokens_take_no_place_in_a_pass() -> None:
    # 24 new tokens of 1,024: a budget of 8,192 less one token for each that decodes holds some 325.
    query = pa.Query(prompt_tokens=1024, prefix_tokens=1000, output_tokens=16, concurrency=400)
    short = pa.Query(prompt_tokens=24, output_tokens=16, concurrency=400)
    cached, alone = (
        pa.evaluate(pa.partition("llama-3-8b", "h100_sxm", asked, runtime="vllm"))
        for asked in (query, short)
    )
    # Attention sees a thousand keys more; the pace is that of one pass, not of forty.
    assert alone.ttft_s < cached.ttft_s < 2.0 * alone.ttft_s


@pytest.mark.parametrize("runtime", ["ideal", "vllm", "sglang"])
def test_a_chunk_as_long_as_the_prompt_changes_nothing(runtime: str) -> None:
    whole = pa.Query(prompt_tokens=512, output_tokens=64, concurrency=16)
    planned = [
        pa.evaluate(pa.partition("llama-3-8b", "h100_sxm", asked, runtime=runtime))
        for asked in (whole, whole.replace(chunk_tokens=512), whole.replace(chunk_tokens=5000))
    ]
    assert len({found.query_s for found in planned}) == 1
    assert len({found.ttft_s for found in planned}) == 1
