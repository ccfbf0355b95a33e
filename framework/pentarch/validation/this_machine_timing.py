"""Operators that are timed on the machine that this runs on, through numpy and, where present, torch.

A probe says what is run in the engine's words (`parts`) and how to run it. Probes of one core run in
a process of their own, whose libraries were told to use one thread before they were loaded.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pentarch.errors import InputError
from pentarch.validation.kernels import AttentionPart, GemmPart, Part, VectorPart
from pentarch.validation.this_machine_facts import MachineFacts

LEAST_REPETITIONS = 5
"""Times that a probe is run at least, whatever its share of the time."""
MOST_REPETITIONS = 60
"""Times that a probe is run at most."""
LEAST_SAMPLE_S = 3e-4
"""Shorter calls are repeated inside one sample until they take so long."""
WORD_BYTES = 4
"""Bytes of an FP32 word."""
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip
"""Variables by which numerical libraries are told how many threads to use."""
PATIENCE = 3.0
"""Times its share of the time after which a process of probes is given up."""
SLACK_S = 20.0
"""Time that such a process may take to start and to allocate."""
LEAST_SPAN, MOST_SPAN = 2**26, 2**29
"""Bounds of the bytes that the timing loops go through."""
SPAN_CACHES = 4
"""Times the last-level cache that they go through, so that it keeps nothing."""
MEMORY_SHARE = 16
"""They take at most this part of the memory."""
BARRIER_SIZES = (64, 96, 64)
"""A product so small that threads wait for one another as long as they work, and no smaller: libraries
run those on one thread."""
CACHE_BYTES = 2**21
"""Last-level cache of one core where the operating system does not say."""

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Probe:
    """One operator to be timed."""

    operator: str
    """stream, gemm, attention, exp or start."""
    sizes: tuple[int, ...]
    """stream: bytes; gemm: m, k, n; attention: heads, tokens, head dimension; exp, start: values."""
    is_single: bool = False
    """Whether one core runs it; else all."""
    software: str = "numpy"
    """numpy or torch."""
    format: str = "fp32"
    """Number format of the operands."""
    span_bytes: int = 2**26
    """Bytes of weights that the timing loop goes through, so that caches do not keep them; 0 to let
    them."""

    @property
    def label(self) -> str:
        """What is run, for people."""
        cores = "one core" if self.is_single else "all cores"
        sizes = "x".join(str(size) for size in self.sizes)
        return f"{self.operator} {sizes} {self.format}, {self.software}, {cores}"

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is run, in the engine's words."""
        if self.operator == "stream":
            (size,) = self.sizes
            return (VectorPart("stream", bytes_in=size, bytes_out=0.0, reduce=size / WORD_BYTES),)
        if self.operator == "start":
            return (VectorPart("start", bytes_in=0.0, bytes_out=0.0, elementwise=self.sizes[0]),)
        if self.operator == "exp":
            return (VectorPart("exp", bytes_in=0.0, bytes_out=0.0, transcendental=self.sizes[0]),)
        if self.operator == "gemm":
            m, k, n = self.sizes
            return (GemmPart(m, k, n, self.format, self.format, self.format),)
        heads, tokens, width = self.sizes
        if self.software == "torch":
            return (
                AttentionPart(1.0, tokens, tokens, heads, heads, width, self.format, self.format),
            )
        return _attention_passes(heads, tokens, width)


def _attention_passes(heads: int, tokens: int, width: int) -> tuple[Part, ...]:
    """Return attention as numpy runs it: two batched products and five passes over the scores."""
    scores = float(heads * tokens * tokens)
    size = scores * WORD_BYTES
    formats = ("fp32", "fp32", "fp32", float(heads))
    return (
        GemmPart(tokens, width, tokens, *formats, name="scores"),
        VectorPart("largest", bytes_in=size, bytes_out=0.0, reduce=scores),
        VectorPart("subtract", bytes_in=size, bytes_out=size, elementwise=scores),
        VectorPart("exp", bytes_in=size, bytes_out=size, transcendental=scores),
        VectorPart("sum", bytes_in=size, bytes_out=0.0, reduce=scores),
        VectorPart("divide", bytes_in=size, bytes_out=size, elementwise=scores),
        GemmPart(tokens, tokens, width, *formats, name="values"),
    )


def probes_for(facts: MachineFacts, *, formats: frozenset[str]) -> tuple[Probe, ...]:
    """Return the operators to time on a processor.

    Args:
        facts: The processor; the larger its cache, the more memory is gone through.
        formats: Formats that the device multiplies: torch is timed in those of 16 bits too.
    """
    room = (facts.memory_bytes or 2.0**32) / MEMORY_SHARE
    cache = facts.l3_bytes or CACHE_BYTES * facts.cores
    span = int(max(min(SPAN_CACHES * cache, room, MOST_SPAN), LEAST_SPAN))
    single = [
        Probe("start", (16,)),
        Probe("exp", (8192,)), Probe("stream", (span,)), Probe("gemm", (1, 2048, 2048)),
        Probe("gemm", (16, 2048, 2048)), Probe("gemm", (256, 1024, 1024)),
        Probe("attention", (16, 1024, 64)),
    ]  # fmt: skip
    found = [replace(probe, is_single=True) for probe in single]
    if facts.cores > 1:
        found.append(Probe("stream", (span,)))
        found.append(Probe("gemm", BARRIER_SIZES, span_bytes=0))
        found += [
            Probe("gemm", sizes)
            for sizes in (
                (1, 2048, 2048), (1, 4096, 4096), (32, 256, 256), (16, 2048, 2048), (64, 2048, 2048),
                (256, 2048, 2048), (1024, 2048, 2048), (1024, 1024, 4096),
            )
        ]  # fmt: skip
    if has_torch():
        kinds = [kind for kind in ("fp32", "bf16") if kind in formats]
        found += [
            Probe(operator, sizes, software="torch", format=kind)
            for kind in kinds
            for operator, sizes in (
                ("gemm", (1, 4096, 4096)), ("gemm", (64, 2048, 2048)), ("gemm", (1024, 2048, 2048)),
                ("attention", (16, 1024, 64)),
            )
        ]  # fmt: skip
    return tuple(replace(probe, span_bytes=min(probe.span_bytes, 1) * span) for probe in found)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Times of one probe."""

    probe: Probe
    """What was run."""
    seconds: tuple[float, ...]
    """Time of each repetition."""


def time_probes(probes: Sequence[Probe], seconds: float) -> list[Sampled]:
    """Return the times of probes on this machine, with equal shares of the time for each.

    Args:
        probes: What to run.
        seconds: Time for all.

    Raises:
        InputError: The process of the probes of one core failed.
    """
    share = seconds / max(len(probes), 1)
    single = [probe for probe in probes if probe.is_single]
    found = dict(zip(single, time_apart(single, share), strict=True)) if single else {}
    for probe in probes:
        if not probe.is_single:
            with prepared(probe) as call:
                found[probe] = time_calls(call, share)
    return [Sampled(probe, found[probe]) for probe in probes]


def time_calls(
    call: Call, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, ...]:
    """Return the times of repeated calls, the first one left out.

    Args:
        call: What to time.
        seconds: Time for all repetitions.
        clock: Seconds from any start.
    """
    call()
    begin = clock()
    call()
    inner = max(int(np.ceil(LEAST_SAMPLE_S / max(clock() - begin, 1e-9))), 1)
    samples: list[float] = []
    end = clock() + seconds
    while len(samples) < LEAST_REPETITIONS or (clock() < end and len(samples) < MOST_REPETITIONS):
        begin = clock()
        for _ in range(inner):
            call()
        samples.append((clock() - begin) / inner)
    return tuple(samples)


def time_apart(probes: Sequence[Probe], seconds_each: float) -> list[tuple[float, ...]]:
    """Return the times of probes in a process whose libraries use one thread.

    Raises:
        InputError: The process failed or did not end in time.
    """
    code = (
        "import json, sys; from pentarch.validation.this_machine_timing import answer; "
        "sys.stdout.write(answer(sys.stdin.read()))"
    )
    question = json.dumps({"seconds": seconds_each, "probes": [asdict(probe) for probe in probes]})
    limit = PATIENCE * seconds_each * len(probes) + SLACK_S
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], input=question, env=environment, timeout=limit,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"Timing on one core took more than {limit:.0f} s. Is the machine busy? Try again, or give "
            "more time with `--seconds`."
        ) from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:] or ["no message"]
        raise InputError(f"Timing on one core failed: {last[0]}") from error
    return [tuple(times) for times in json.loads(done.stdout)]


def answer(question: str) -> str:
    """Return, as JSON, the times of the probes that a JSON document asks for (`time_apart`)."""
    asked = json.loads(question)
    found = []
    for entry in asked["probes"]:
        with prepared(Probe(**{**entry, "sizes": tuple(entry["sizes"])})) as call:
            found.append(time_calls(call, asked["seconds"]))
    return json.dumps(found)


def has_torch() -> bool:
    """Return whether torch can be imported, without importing it."""
    return importlib.util.find_spec("torch") is not None


@contextmanager
def prepared(probe: Probe) -> Iterator[Call]:
    """Give a call that runs a probe once; its operands are allocated, its threads started."""
    if probe.operator == "stream":
        with _stream(probe) as call:
            yield call
        return
    if probe.software == "torch":
        yield _torch(probe)
        return
    makers = {"gemm": _product, "attention": _attention, "exp": _exp, "start": _start}
    yield makers[probe.operator](probe)


@contextmanager
def _stream(probe: Probe) -> Iterator[Call]:
    """Read memory once: the largest of many words, each thread its own part of them."""
    workers = 1 if probe.is_single else len(_cores())
    words = np.ones(probe.sizes[0] // WORD_BYTES, dtype=np.float32)
    if workers == 1:
        yield words.max
        return
    parts = np.array_split(words, workers)
    with ThreadPoolExecutor(workers) as pool:
        yield lambda: list(pool.map(np.max, parts))


def _cores() -> Sequence[int]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


def _product(probe: Probe) -> Call:
    m, k, n = probe.sizes
    left = np.ones((m, k), dtype=np.float32)
    out = np.empty((m, n), dtype=np.float32)
    copies = max(probe.span_bytes // (k * n * WORD_BYTES), 1)
    weights = np.ones((copies, k, n), dtype=np.float32)
    turn = _Turn(copies)
    return lambda: np.matmul(left, weights[turn.next()], out=out)


class _Turn:
    """Counts round and round, so that each call takes other operands than the last one."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._at = 0

    def next(self) -> int:
        self._at = (self._at + 1) % self._length
        return self._at


def _attention(probe: Probe) -> Call:
    heads, tokens, width = probe.sizes
    query, key, value = (np.full((heads, tokens, width), 0.1, dtype=np.float32) for _ in range(3))
    scores = np.empty((heads, tokens, tokens), dtype=np.float32)
    out = np.empty((heads, tokens, width), dtype=np.float32)
    turned = np.ascontiguousarray(key.transpose(0, 2, 1))

    def run() -> None:
        np.matmul(query, turned, out=scores)
        np.subtract(scores, scores.max(axis=-1, keepdims=True), out=scores)
        np.exp(scores, out=scores)
        np.divide(scores, scores.sum(axis=-1, keepdims=True), out=scores)
        np.matmul(scores, value, out=out)

    return run


def _start(probe: Probe) -> Call:
    values = np.ones(probe.sizes[0], dtype=np.float32)
    out = np.empty_like(values)
    return lambda: np.add(values, values, out=out)


def _exp(probe: Probe) -> Call:
    values = np.full(probe.sizes[0], 0.1, dtype=np.float32)
    out = np.empty_like(values)
    return lambda: np.exp(values, out=out)


def _torch(probe: Probe) -> Call:
    """Return a call of a product or of causal attention through torch."""
    torch: Any = importlib.import_module("torch")
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[probe.format]
    if probe.operator == "attention":
        heads, tokens, width = probe.sizes
        query, key, value = (
            torch.full((1, heads, tokens, width), 0.1, dtype=kind) for _ in range(3)
        )
        attend = torch.nn.functional.scaled_dot_product_attention
        return lambda: attend(query, key, value, is_causal=True)
    m, k, n = probe.sizes
    left, out = torch.ones((m, k), dtype=kind), torch.empty((m, n), dtype=kind)
    copies = max(probe.span_bytes // (k * n * left.element_size()), 1)
    weights = torch.ones((copies, k, n), dtype=kind)
    turn = _Turn(copies)
    return lambda: torch.mm(left, weights[turn.next()], out=out)
