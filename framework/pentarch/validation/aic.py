"""Kernel files of the aiconfigurator collection: GEMM, attention, mixtures of experts, collectives."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from pentarch.errors import FieldError
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
from pentarch.validation.routing_draws import RankLoad, Routing, balanced_load, power_law_load
from pentarch.workload.formats import number_format

FRAMEWORKS = ("vllm", "sglang", "trtllm")
"""Stacks that the files have a column for."""

COPIES: Mapping[str, float] = MappingProxyType({"vllm": 6.0, "sglang": 6.0, "trtllm": 5.0})
"""Weight copies in one captured graph (header of the GEMM file)."""

REFERENCE: Mapping[bool, tuple[str, ...]] = MappingProxyType(
    {False: FRAMEWORKS, True: ("vllm", "sglang")}
)
"""Stacks whose median is `latency_ms` of a GEMM, by whether the precision is fp8."""

GATED_SILU = "silu_multiply"
"""Function between the two products of most models' experts."""

ACTIVATIONS: Mapping[tuple[float, ...], str] = MappingProxyType(
    {
        (2816.0, 704.0, 128.0): "gelu_multiply",
        (6144.0, 3072.0, 128.0): "clamped_silu_multiply",
        (2880.0, 2880.0, 32.0): "clamped_silu_multiply",
        (2880.0, 2880.0, 128.0): "clamped_silu_multiply",
        (2688.0, 1856.0, 128.0): "relu_squared",
        (1024.0, 2688.0, 512.0): "relu_squared",
        (2048.0, 5120.0, 512.0): "relu_squared",
    }
)
"""Other functions, by hidden size, width and number of experts of the model that has them: Gemma 4
26B-A4B; MiniMax-M3 and GPT-OSS (gate and product clamped); Nemotron 3 Nano, Super and Ultra, the
last two with the width of their latent experts (configurations of the models)."""

UNGATED = frozenset({"relu_squared"})
"""Functions that no second product multiplies: the first product is half as wide."""

BARE_KERNEL = "vllm_fused_moe"
"""Kernel of rows that called the function of experts by itself, with its default function."""

FILLING = ("triton", BARE_KERNEL)
"""Kernels (parts of their names) that write zeros for experts of other ranks and pass them on: vLLM's
`fused_moe_kernel` does where an expert map says that an expert is elsewhere."""

FUSING = "trtllm"
"""Kernels (part of their names) whose first product applies the function and converts its result."""

UNFUSED = frozenset({"fp8_block"})
"""Precisions for which they have a kernel apart for it: scales of blocks of outputs."""

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
        local = line.positive("num_experts") / line.positive("moe_ep_size")
        load, kernel = routed(line), line.text("kernel")
        activation = activation_of(line)
        wide = inner if activation in UNGATED else 2.0 * inner
        up, down = (
            GemmPart(
                m=load.pairs / load.visited, k=inside, n=outside, instances=load.visited,
                a_format=a_format, b_format=b_format, out_format="bf16", name=name, routed=True,
                activation=activation,
            )
            for name, inside, outside in (("up", hidden, wide), ("down", inner, hidden))
        )  # fmt: skip
        # Some kernels pass rows of experts on other ranks on, filled with zeros.
        absent = 0.0
        if any(word in kernel for word in FILLING):
            absent = max(tokens * line.positive("topk") - load.pairs, 0.0)
        passed = load.pairs + absent
        act = VectorPart(
            function=activation, bytes_in=2.0 * passed * wide,
            bytes_out=2.0 * (passed * inner + absent * (wide + hidden)),
            elementwise=2.0 * passed * inner, transcendental=passed * inner,
        )  # fmt: skip
        combine = VectorPart(
            function="combine", bytes_in=2.0 * passed * hidden, bytes_out=2.0 * tokens * hidden,
            elementwise=2.0 * passed * hidden,
        )  # fmt: skip
        between: tuple[Part, ...] = (act,)
        if quantizes:
            between = (act, quantize_part(passed * inner, a_format, lines=passed))
        if FUSING in kernel and precision not in UNFUSED:
            between, up = (), replace(up, out_format=a_format)
        parts: tuple[Part, ...] = (up, *between, down, combine)
        if quantizes:
            parts = (quantize_part(tokens * hidden, a_format, lines=tokens), *parts)
        yield KernelRow(
            file=file, device=line.text("device"), operator="moe", precision=precision,
            label=(f"{precision} {tokens:g} tokens, {line['topk']} of {line['num_experts']} experts "
                   f"{hidden:g}x{inner:g}, {line['distribution']}"),
            subset=subset_of(line.flags()), runtimes=("vllm",), parts=parts,
            measured_s=line.seconds("latency_ms"), kernel=kernel,
            footprint=(wide + inner) * hidden * local * number_format(b_format).bytes,
        )  # fmt: skip


def activation_of(line: Line) -> str:
    """Return the function between the two products of the experts of a row.

    The file states the shape; the function is that of the model whose experts have it. A row whose
    kernel is the bare function of older versions ran the common one whatever the model.
    """
    if line.text("kernel") == BARE_KERNEL:
        return GATED_SILU
    shape = tuple(line.positive(name) for name in ("hidden_size", "inter_size", "num_experts"))
    return ACTIVATIONS.get(shape, GATED_SILU)


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


def routed(line: Line) -> RankLoad:
    """Return what the measured rank gets of the token copies.

    Raises:
        FieldError: A number is missing or wrong, or the distribution is unknown.
    """
    tokens, top, experts, ranks = (
        round(line.positive(name)) for name in ("num_tokens", "topk", "num_experts", "moe_ep_size")
    )
    routing = Routing(tokens=tokens, top=top, experts=experts, ranks=ranks)
    name = line.text("distribution")
    if name == "balanced":
        return balanced_load(routing)
    try:
        exponent = float(name.removeprefix("power_law_"))
    except ValueError:
        exponent = 1.0
    if not name.startswith("power_law_") or exponent == 1.0:
        raise FieldError(
            where=line.where, path="distribution", problem=f"found {name!r}",
            expected="balanced, or power_law_ and an exponent other than 1",
        )  # fmt: skip
    return power_law_load(routing, exponent, older=line.text("kernel") == BARE_KERNEL)
