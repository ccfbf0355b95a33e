"""Operator files of other projects: LLMCompass, Vidur and NeuSight."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from pentarch.errors import FieldError
from pentarch.validation.kernels import (
    CollectivePart,
    GemmPart,
    KernelRow,
    Part,
    VectorPart,
    subset_of,
)
from pentarch.validation.lines import Line
from pentarch.workload.formats import number_format

TIMED_CALLS = "timed-calls"
"""Runtime of benchmarks that time one call and a synchronization from the host."""
KERNEL_TIME = "kernel-time"
"""Runtime of what a profiler reports: the time of kernels alone."""
EAGER = "framework-eager"
"""Runtime of calls that a framework issues one by one."""

GPT3_HIDDEN, GPT3_HEADS, GPT3_BATCH, GPT3_LENGTH, GPT3_WAYS = 12288.0, 96.0, 8.0, 2048.0, 4.0
"""The GPT-3 layer of the LLMCompass file (its header)."""

SYSTEMS: Mapping[str, str] = MappingProxyType(
    {
        "a100_dgx": "a100_sxm",
        "h100_dgx": "h100_sxm",
        "a100_pairwise_nvlink": "a100_pcie_80",
        "h100_pairwise_nvlink": "h100_pcie",
    }
)
"""Device of each system of the Vidur collectives; pairs are joined by bridges."""


def softmax_part(rows: float, width: float, word: str) -> VectorPart:
    """Return a softmax over the last axis of [rows, width]: maximum, exp, sum, division."""
    values, moved = rows * width, rows * width * number_format(word).bytes
    return VectorPart(
        function="softmax", bytes_in=moved, bytes_out=moved, elementwise=2.0 * values,
        reduce=2.0 * values, transcendental=values,
    )  # fmt: skip


def norm_part(rows: float, width: float, word: str) -> VectorPart:
    """Return a layer norm over the last axis of [rows, width]: mean, variance, scale and shift."""
    values, size = rows * width, number_format(word).bytes
    return VectorPart(
        function="norm", bytes_in=values * size, bytes_out=values * size,
        weight_bytes=2.0 * width * size, elementwise=4.0 * values, reduce=2.0 * values,
    )  # fmt: skip


def pointwise_part(
    function: str, values: float, word: str, *, inputs: float = 1.0, hard: bool = False
) -> VectorPart:
    """Return a function of `inputs` tensors, value by value; a hard one is transcendental."""
    moved = values * number_format(word).bytes
    return VectorPart(
        function=function, bytes_in=inputs * moved, bytes_out=moved,
        elementwise=values if not hard else 2.0 * values, transcendental=values if hard else 0.0,
    )  # fmt: skip


def llmcompass_rows(lines: Sequence[Line], file: str) -> Iterator[KernelRow]:
    """Yield the rows of the LLMCompass file, then one for each whole layer whose parts it has.

    Raises:
        FieldError: A dimension or time is missing or wrong, or the operation is unknown.
    """
    layers: dict[tuple[str, str, str], list[KernelRow]] = {}
    for line in lines:
        operation, word, device = line.text("op"), line.text("dtype"), line.text("device")
        layer, _, part = operation.partition(":")
        if part:
            operator, parts = _gpt3(line, part, word, is_decode="decode" in layer)
            label = f"{layer} {part}"
        else:
            operator, parts = _compass_parts(line, operation, word)
            shape = "x".join(line.get(name) or "-" for name in "mnk")
            label = f"{operation} {shape}"
        row = KernelRow(
            file=file, label=label, device=device, operator=operator, precision=word,
            subset=subset_of(line.flags()), runtimes=(TIMED_CALLS,), parts=parts, copies=1.0,
            measured_s=line.seconds("latency_ms"), kernel=part or operation,
        )  # fmt: skip
        yield row
        if part:
            layers.setdefault((device, word, layer), []).append(row)
    for (device, word, layer), members in layers.items():
        yield KernelRow(
            file=file, label=layer, device=device, operator="layer", precision=word, subset="main",
            runtimes=(TIMED_CALLS,), copies=1.0, kernel=layer,
            parts=tuple(part for row in members for part in row.parts),
            measured_s=sum(row.measured_s for row in members),
        )  # fmt: skip


def _compass_parts(line: Line, operation: str, word: str) -> tuple[str, tuple[Part, ...]]:
    n = line.positive("n")
    if operation == "matmul":
        m, k = line.positive("m"), line.positive("k")
        return "gemm", (GemmPart(m=m, k=k, n=n, a_format=word, b_format=word, out_format=word),)
    if operation == "softmax":
        return "vector", (softmax_part(line.positive("m"), n, word),)
    if operation == "layernorm":
        return "vector", (norm_part(line.positive("m"), n, word),)
    if operation == "gelu":
        return "vector", (pointwise_part("gelu", n, word, hard=True),)
    if operation == "all_reduce":
        size = n * number_format(word).bytes
        return "all_reduce", (CollectivePart("all_reduce", size, line.positive("num_gpus")),)
    raise _unknown(line, "op", "matmul, softmax, layernorm, gelu, all_reduce or LAYER:PART")


def _gpt3(line: Line, part: str, word: str, *, is_decode: bool) -> tuple[str, tuple[Part, ...]]:
    """Return an operator of the GPT-3 layer as one of four devices runs it."""
    tokens = GPT3_BATCH * (1.0 if is_decode else GPT3_LENGTH)
    width, heads = GPT3_HIDDEN, GPT3_HEADS / GPT3_WAYS
    own, queries = width / GPT3_WAYS, 1.0 if is_decode else GPT3_LENGTH
    per_head, many = width / GPT3_HEADS, GPT3_BATCH * heads

    def gemm(m: float, k: float, n: float, instances: float = 1.0) -> Part:
        return GemmPart(m, k, n, a_format=word, b_format=word, out_format=word, instances=instances)

    size = tokens * width * number_format(word).bytes
    made: dict[str, tuple[str, tuple[Part, ...]]] = {
        "Q_K_V": ("gemm", (gemm(tokens, width, own),) * 3),
        "Q_mul_K": ("gemm", (gemm(queries, per_head, GPT3_LENGTH, many),)),
        "A_mul_V": ("gemm", (gemm(queries, GPT3_LENGTH, per_head, many),)),
        "Wo_proj": ("gemm", (gemm(tokens, own, width),)),
        "W1_proj": ("gemm", (gemm(tokens, width, 4.0 * own),)),
        "W2_proj": ("gemm", (gemm(tokens, 4.0 * own, width),)),
        "softmax": ("vector", (softmax_part(many * queries, GPT3_LENGTH, word),)),
        "layernorm_mha": ("vector", (norm_part(tokens, width, word),)),
        "layernorm_ffn": ("vector", (norm_part(tokens, width, word),)),
        "gelu": ("vector", (pointwise_part("gelu", tokens * 4.0 * own, word, hard=True),)),
        "allreduce_mha": ("all_reduce", (CollectivePart("all_reduce", size, GPT3_WAYS),)),
        "allreduce_ffn": ("all_reduce", (CollectivePart("all_reduce", size, GPT3_WAYS),)),
    }
    if part not in made:
        raise _unknown(line, "op", "LAYER: and " + ", ".join(made))
    return made[part]


def vidur_op_rows(lines: Sequence[Line], file: str) -> Iterator[KernelRow]:
    """Yield the rows of the Vidur operator file: kernels inside a layer, timed by a profiler.

    Raises:
        FieldError: A dimension or time is missing or wrong, or the operation is unknown.
    """
    word = "fp16"
    for line in lines:
        operation, m, n = line.text("op"), line.positive("m"), line.positive("n")
        k = line.number_or_none("k")
        operator = "gemm" if k else "vector"
        part: Part
        if k:
            part = GemmPart(m=m, k=k, n=n, a_format=word, b_format=word, out_format=word)
        elif operation.endswith("layernorm"):
            part = norm_part(m, n, word)
        elif operation in ("attn_rope", "mlp_act", "add"):
            inputs = {"attn_rope": 1.0, "mlp_act": _gates(line), "add": 2.0}[operation]
            part = pointwise_part(
                operation, m * n, word, inputs=inputs, hard=operation == "mlp_act"
            )
        else:
            raise _unknown(line, "op", "a GEMM with k, *layernorm, attn_rope, mlp_act or add")
        yield KernelRow(
            file=file, label=f"{line['model']} {operation} {m:g}x{n:g}" + (f"x{k:g}" if k else ""),
            device=line.text("device"), operator=operator, precision=word,
            subset=subset_of(line.flags()), runtimes=(KERNEL_TIME,), parts=(part,),
            measured_s=line.seconds("latency_ms"), kernel=operation,
        )  # fmt: skip


def _gates(line: Line) -> float:
    """Return the tensors that the activation reads: a gated feed-forward block has two."""
    return 1.0 if "phi-2" in line.text("model") else 2.0


def vidur_collective_rows(lines: Sequence[Line], file: str) -> Iterator[KernelRow]:
    """Yield the rows of the Vidur collectives, some of them between boards.

    Raises:
        FieldError: A size or time is missing or wrong, or the operation or system is unknown.
    """
    operations = {"all_reduce": "all_reduce", "send_recv": "send"}
    for line in lines:
        system, operation = line.text("system"), operations.get(line.text("op"))
        if operation is None:
            raise _unknown(line, "op", "all_reduce or send_recv")
        size, devices = line.positive("message_bytes"), line.positive("num_gpus")
        per_board = int(line.positive("devices_per_node"))
        yield KernelRow(
            file=file, label=f"{operation} of {size:g} B among {devices:g}, {per_board} a board, {system}",
            device=SYSTEMS.get(system, system), operator=operation, precision="",
            subset=subset_of(line.flags()), runtimes=("torch-distributed",),
            parts=(CollectivePart(operation, size, devices),), kernel=system,
            measured_s=line.seconds("latency_ms"),
            devices_per_board=per_board if per_board < devices else None,
        )  # fmt: skip


POINTWISE: Mapping[str, tuple[float, bool]] = MappingProxyType(
    {
        **dict.fromkeys(("add", "mul", "div"), (2.0, False)),
        **dict.fromkeys(("addu", "mulu", "divu", "relu"), (1.0, False)),
        "pow": (2.0, True),
        **dict.fromkeys(("powu", "tanh", "gelu"), (1.0, True)),
    }
)
"""NeuSight's functions of single values: tensors read, and whether they are transcendental."""

_ROWWISE: Mapping[str, Callable[[float, float, str], VectorPart]] = MappingProxyType(
    {"layernorm": norm_part, "softmax": softmax_part}
)


def neusight_rows(lines: Sequence[Line], file: str) -> Iterator[KernelRow]:
    """Yield the rows of the NeuSight operator file: FP32, calls of a framework.

    Raises:
        FieldError: A dimension or time is missing or wrong, or the operation is unknown.
    """
    word = "fp32"
    for line in lines:
        operation, b = line.text("op"), line.positive("b")
        part: Part
        if operation in ("linear", "bmm"):
            m, n, k = (line.positive(name) for name in "mnk")
            many = operation == "bmm"
            part = GemmPart(
                m=m if many else b * m, k=k, n=n, a_format=word, b_format=word, out_format=word,
                instances=b if many else 1.0,
            )  # fmt: skip
            shape = f"{b:g} x {m:g}x{n:g}x{k:g}"
        elif operation in _ROWWISE:
            part = _ROWWISE[operation](b, line.positive("h"), word)
            shape = f"{b:g}x{line['h']}"
        elif operation in POINTWISE:
            inputs, hard = POINTWISE[operation]
            values = b * line.positive("h")
            part = pointwise_part(operation, values, word, inputs=inputs, hard=hard)
            shape = f"{b:g}x{line['h']}"
        else:
            raise _unknown(line, "op", ", ".join(["linear", "bmm", *_ROWWISE, *POINTWISE]))
        yield KernelRow(
            file=file, label=f"{operation} {shape}", device=line.text("device"),
            operator="gemm" if isinstance(part, GemmPart) else "vector", precision=word,
            subset=subset_of(line.flags()), runtimes=(EAGER,), parts=(part,), copies=1.0,
            measured_s=line.seconds("latency_ms"), kernel=operation,
        )  # fmt: skip


def _unknown(line: Line, column: str, expected: str) -> FieldError:
    return FieldError(
        where=line.where, path=column, problem=f"found {line.get(column)!r}", expected=expected
    )
