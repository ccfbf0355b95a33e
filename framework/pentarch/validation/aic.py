"""Kernel files of the aiconfigurator collection: GEMM, attention, mixtures of experts, collectives."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from pentarch.errors import FieldError
from pentarch.hardware.columns import Floats
from pentarch.validation.kernels import (
    QUANTIZED,
    AttentionPart,
    CollectivePart,
    GemmPart,
    KernelRow,
    Part,
    VectorPart,
    quantize_part,
    subset_of,
)
from pentarch.validation.lines import Line
from pentarch.workload.formats import number_format

FRAMEWORKS = ("vllm", "sglang", "trtllm")
"""Stacks that the files have a column for."""

COPIES: Mapping[str, float] = MappingProxyType({"vllm": 6.0, "sglang": 6.0, "trtllm": 5.0})
"""Weight copies in one captured graph (header of the GEMM file)."""

REFERENCE: Mapping[bool, tuple[str, ...]] = MappingProxyType(
    {False: FRAMEWORKS, True: ("vllm", "sglang")}
)
"""Stacks whose median is `latency_ms` of a GEMM, by whether the precision is fp8."""

COLLECTIVE_STACKS: Mapping[str, str] = MappingProxyType(
    {
        "nccl": "nccl-tests",
        "oneccl": "oneccl",
        "vllm": "vllm",
        "sglang": "sglang",
        "trtllm": "trtllm",
    }
)
"""Runtime by the first word of a collective library."""


def gemm_rows(lines: Sequence[Line], file: str) -> Iterator[KernelRow]:
    """Yield the rows of a GEMM file: its reference column, then one for each stack.

    Raises:
        FieldError: A dimension or time is missing or wrong, or the precision is unknown.
    """
    for line in lines:
        m, n, k = (line.positive(name) for name in "mnk")
        precision = line.text("dtype")
        a_format, b_format, quantizes = formats_of(line, precision)
        gemm = GemmPart(m=m, k=k, n=n, a_format=a_format, b_format=b_format, out_format="bf16")
        row = KernelRow(
            file=file, label=f"{precision} {m:g}x{n:g}x{k:g}", device=line.text("device"),
            operator="gemm", precision=precision, subset=subset_of(line.flags()), runtimes=(),
            measured_s=line.seconds("latency_ms"), copies=COPIES["vllm"],
            parts=(quantize_part(m * k, a_format, lines=m), gemm) if quantizes else (gemm,),
        )  # fmt: skip
        yield from _by_framework(line, row, REFERENCE[precision == "fp8"], COPIES)


def attention_rows(lines: Sequence[Line], file: str) -> Iterator[KernelRow]:
    """Yield the rows of a file of prefill (`seq_len`) or decode (`kv_len`) attention.

    The new keys and values are written to the cache by a kernel of their own.

    Raises:
        FieldError: A dimension or time is missing or wrong, or the format is unknown.
    """
    for line in lines:
        is_prefill = "seq_len" in line
        length = line.positive("seq_len" if is_prefill else "kv_len")
        batch, heads, kv_heads, head_dim = (
            line.positive(name) for name in ("batch", "heads", "kv_heads", "head_dim")
        )
        kv_format = line.text("kv_dtype")
        formats_of(line, kv_format, column="kv_dtype")
        queries = length if is_prefill else 1.0
        new_values = 2.0 * batch * queries * kv_heads * head_dim
        attention = AttentionPart(
            batch=batch, queries=queries, keys=length, heads=heads, kv_heads=kv_heads,
            head_dim=head_dim, query_format="bf16", kv_format=kv_format,
        )  # fmt: skip
        word = {"fp8": 1.0}.get(kv_format, 2.0)
        append = VectorPart(
            function="kv_append", bytes_in=2.0 * new_values, bytes_out=word * new_values
        )
        row = KernelRow(
            file=file, device=line.text("device"), precision=kv_format,
            operator="attention_prefill" if is_prefill else "attention_decode",
            label=f"{batch:g} x {length:g} tokens, {heads:g}/{kv_heads:g} heads of {head_dim:g}",
            subset=subset_of(line.flags()), runtimes=(), measured_s=line.seconds("latency_ms"),
            parts=(append, attention), copies=1.0,
        )  # fmt: skip
        yield from _by_framework(line, row, ("vllm",), dict.fromkeys(FRAMEWORKS, 1.0))


def moe_rows(lines: Sequence[Line], file: str) -> Iterator[KernelRow]:
    """Yield the rows of a file of routed-expert blocks, as the most loaded rank runs them.

    Raises:
        FieldError: A dimension or time is missing or wrong, or the format or distribution unknown.
    """
    for line in lines:
        precision = line.text("dtype")
        a_format, b_format, quantizes = formats_of(line, precision)
        tokens, hidden = line.positive("num_tokens"), line.positive("hidden_size")
        inner = line.positive("inter_size") / line.positive("moe_tp_size")
        visited, work = routed(line)
        local = line.positive("num_experts") / line.positive("moe_ep_size")
        m = work / visited
        up, down = (
            GemmPart(
                m=m, k=inside, n=outside, instances=visited, a_format=a_format, b_format=b_format,
                out_format="bf16", name=name, routed=True,
            )
            for name, inside, outside in (("gate_up", hidden, 2.0 * inner), ("down", inner, hidden))
        )  # fmt: skip
        act = VectorPart(
            function="silu_multiply", bytes_in=4.0 * work * inner, bytes_out=2.0 * work * inner,
            elementwise=2.0 * work * inner, transcendental=work * inner,
        )  # fmt: skip
        combine = VectorPart(
            function="combine", bytes_in=2.0 * work * hidden, bytes_out=2.0 * tokens * hidden,
            elementwise=2.0 * work * hidden,
        )  # fmt: skip
        parts: tuple[Part, ...] = (up, act, down, combine)
        if quantizes:
            first = quantize_part(tokens * hidden, a_format, lines=tokens)
            parts = (
                first,
                up,
                act,
                quantize_part(work * inner, a_format, lines=work),
                down,
                combine,
            )
        yield KernelRow(
            file=file, device=line.text("device"), operator="moe", precision=precision,
            label=(f"{precision} {tokens:g} tokens, {line['topk']} of {line['num_experts']} experts "
                   f"{hidden:g}x{inner:g}, {line['distribution']}"),
            subset=subset_of(line.flags()), runtimes=("vllm",), parts=parts,
            measured_s=line.seconds("latency_ms"), kernel=line.text("kernel"),
            footprint=3.0 * hidden * inner * local * number_format(b_format).bytes,
        )  # fmt: skip


def collective_rows(lines: Sequence[Line], file: str) -> Iterator[KernelRow]:
    """Yield the rows of a file of collectives, each by the library that ran it.

    Raises:
        FieldError: A size or time is missing or wrong, or the operation or library is unknown.
    """
    for line in lines:
        library, operation = line.text("library"), line.text("op")
        stack = COLLECTIVE_STACKS.get(library.split("-")[0])
        if stack is None or operation not in (
            "all_reduce",
            "all_gather",
            "reduce_scatter",
            "all_to_all",
        ):
            raise FieldError(
                where=line.where, path="library" if stack is None else "op",
                problem=f"found {library if stack is None else operation!r}",
                expected="a library of " + ", ".join(COLLECTIVE_STACKS)
                + "; op all_reduce, all_gather, reduce_scatter or all_to_all",
            )  # fmt: skip
        if line.get("mode") == "eager" and "custom" in library:
            stack = "framework-eager"
        size, devices = line.positive("message_bytes"), line.positive("num_gpus")
        yield KernelRow(
            file=file, device=line.text("device"), operator=operation, precision="",
            label=f"{operation} of {size:g} B among {devices:g}, {library}",
            subset=subset_of(line.flags()), runtimes=(stack,), measured_s=line.seconds("latency_ms"),
            parts=(CollectivePart(function=operation, message_bytes=size, degree=devices),),
            kernel=library,
        )  # fmt: skip


def formats_of(line: Line, precision: str, *, column: str = "dtype") -> tuple[str, str, bool]:
    """Return the formats of A and B, and whether A is quantized by a kernel of its own.

    Raises:
        FieldError: The precision is unknown.
    """
    found = QUANTIZED.get(precision)
    if found is None:
        raise FieldError(
            where=line.where, path=column, problem=f"found {precision!r}",
            expected="one of " + ", ".join(QUANTIZED),
        )  # fmt: skip
    return found


def _by_framework(
    line: Line, row: KernelRow, reference: Sequence[str], copies: Mapping[str, float]
) -> Iterator[KernelRow]:
    """Yield a row for the reference column, then one for the column of each stack."""
    measured = [name for name in FRAMEWORKS if (line.get(f"{name}_ms") or "").strip()]
    used = tuple(name for name in reference if name in measured)
    yield replace(row, runtimes=used or tuple(measured) or ("vllm",))
    for name in measured:
        yield replace(
            row, runtimes=(name,), measured_s=line.seconds(f"{name}_ms"), framework=name,
            copies=copies[name],
        )  # fmt: skip


def routed(line: Line) -> tuple[float, float]:
    """Return the experts of the most loaded rank that some token visits, and their token copies.

    Raises:
        FieldError: A number is missing or wrong, or the distribution is unknown.
    """
    tokens, top, experts, ranks = (
        line.positive(name) for name in ("num_tokens", "topk", "num_experts", "moe_ep_size")
    )
    loads = expert_loads(line, experts=int(experts), tokens=tokens, copies=tokens * top)
    mine = np.concatenate([loads[:1], loads[int(ranks) :: int(ranks)]])[
        : max(1, round(experts / ranks))
    ]
    if line["distribution"] == "balanced":
        visited = float(np.minimum(mine, 1.0).sum())
    else:
        share = np.minimum(mine / tokens, 1.0)
        visited = float((1.0 - (1.0 - share) ** tokens).sum())
    return max(visited, 1.0), max(float(mine.sum()), 1.0)


def expert_loads(line: Line, *, experts: int, tokens: float, copies: float) -> Floats:
    """Return the expected token copies of each expert, the most loaded first, shape (experts,).

    `balanced` gives all the same. `power_law_A` draws loads with a density proportional to
    load^-A between 1 and 0.8 x tokens (between 0.01 and 2 where there are fewer copies than
    experts); here the draws are the quantiles. The bounds are an assumption, recalled from the
    collection's generator and not checked against it: the file states the exponent only.

    Raises:
        FieldError: The distribution is neither.
    """
    name = line.text("distribution")
    if name == "balanced":
        return np.full(experts, copies / experts)
    try:
        exponent = 1.0 - float(name.removeprefix("power_law_"))
    except ValueError:
        exponent = 0.0
    if not name.startswith("power_law_") or exponent == 0.0:
        raise FieldError(
            where=line.where, path="distribution", problem=f"found {name!r}",
            expected="balanced, or power_law_ and an exponent other than 1",
        )  # fmt: skip
    low, high = (1.0, max(0.8 * tokens, 1.0)) if copies > experts else (0.01, 2.0)
    quantiles = (np.arange(experts) + 0.5) / experts
    drawn = ((high**exponent - low**exponent) * quantiles + low**exponent) ** (1.0 / exponent)
    loads: Floats = np.sort(drawn)[::-1] * copies / drawn.sum()
    return np.minimum(loads, tokens)
