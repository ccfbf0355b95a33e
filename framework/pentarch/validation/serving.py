"""Files of measured runs: serving sweeps, MLPerf, published figures, whole forward passes.

Readers yield rows, or what cannot be scored and why.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from pentarch.errors import FieldError
from pentarch.validation.kernels import subset_of
from pentarch.validation.labels import format_name, plain_label, runtime_name
from pentarch.validation.lines import Line
from pentarch.validation.rows import Unscored
from pentarch.validation.runs import Deployment, Limits, Protocol, RunRow, known_workload
from pentarch.workload.query import Precisions

if TYPE_CHECKING:
    from pentarch.catalog import Library

RunReader = Callable[[Sequence[Line], str, "Library"], Iterator[RunRow | Unscored]]

NARROW_BITS = 8
"""Weights of at most so many bits go with an fp8 KV cache where a file does not record its format."""
DEFAULT_LENGTH = 128
"""Tokens of prompt and output where a published row leaves them out, as llama.cpp's own benchmark has."""


ROUNDS = 10.0
"""Queries of a run per client, which InferenceX's scripts and NVIDIA's accuracy runs state (num-prompts
= 10 x concurrency); taken for the sources that state none."""

SPREAD = 0.9
"""Mean of the lengths where they are drawn evenly from 0.8 to 1 of the stated one, as InferenceX has
them (random_range_ratio 0.8)."""

INFERENCEX = Protocol(rounds=ROUNDS, polls=((1, 10.0), (16, 30.0)))
"""How InferenceX sends queries. Its SGLang scripts set scheduler-recv-interval to 10, from 16 clients
on to 30; first tokens come one such interval late."""

SOURCES: Mapping[str, tuple[float, Protocol]] = MappingProxyType(
    {
        "dated-csv": (SPREAD, INFERENCEX),
        "db-dump": (SPREAD, INFERENCEX),
        "gap-analysis": (1.0, Protocol(rounds=ROUNDS, in_step=True, step_prompts=2.0)),
    }
)
"""Column source_class of a serving sweep -> (mean length / stated length, how queries are sent).

The gap analyses have queries of one length. An exact simulation of them in steps, ten for each
client, gives their times to the first token at 8 to 128 clients, 4 to 12 prefills whatever the
length of the prompt, with a token budget of two prompts and with no other.
"""

UNEVEN = "tensor parallelism over a number of devices that does not divide the heads"

_UNPREDICTED: Mapping[str, str] = MappingProxyType(
    {
        "attention_dp_size": "attention data parallelism",
        "moe_ep_size": "expert parallelism",
    }
)
"""Columns of a serving sweep that must be 1, and what they mean."""

_PUBLISHED_EXPERTS: Mapping[str, str] = MappingProxyType(
    {"gpt-oss-20b": "mxfp4", "gpt-oss-120b": "mxfp4"}
)
"""Workload -> format of its experts, where checkpoints are published in one 4-bit format only:
whatever 4-bit format a row states is that one (OpenAI, gpt-oss-120b and gpt-oss-20b model card, 2025)."""


def serving_rows(
    lines: Sequence[Line], file: str, library: "Library"
) -> Iterator[RunRow | Unscored]:
    """Yield TTFT and TPOT of a serving sweep; disaggregated pools are not predicted.

    Raises:
        FieldError: A size or time is missing or wrong, or a format is unknown.
    """
    for line in lines:
        try:
            yield from _serving_rows(line, file, library)
        except LookupError as error:
            yield Unscored(file, str(error.args[0]), str(error.args[1]), 2)


def _serving_rows(line: Line, file: str, library: "Library") -> Iterator[RunRow | Unscored]:
    from pentarch.workload.formats import number_format

    model, mode, stack = line.text("model_path"), line.text("mode"), line.text("backend")
    word = (line.get("gemm_quant_mode") or "").strip() or "bf16"
    _only(mode == "agg", "not predicted", f"{mode} serving")
    for column, what in _UNPREDICTED.items():
        _only((line.number_or_none(column) or 1.0) <= 1.0, "not predicted", what)
    clients = line.number_or_none("concurrency")
    load = line.number_or_none("replica_batch") or clients
    if load is None:
        raise LookupError("not recorded", "concurrency")
    workload = known_workload(library, model)
    tensor, pipeline = int(line.positive("tp_size")), int(line.positive("pp_size"))
    _only(_can_cut(library, workload, tensor), "not predicted", UNEVEN)
    precisions = _served_precisions(line, word)
    if number_format(precisions.weights).bits < NARROW_BITS:
        precisions = precisions.replace(experts=_PUBLISHED_EXPERTS.get(workload))
    source = line.get("source_class") or ""
    lengths, protocol = SOURCES.get(source, (1.0, Protocol(rounds=ROUNDS)))
    deployment = Deployment(
        workload=workload, device=_device(library, line.text("device")),
        devices=tensor * pipeline, tensor=tensor, pipeline=pipeline,
        runtime=runtime_name(library, stack) or stack, precisions=precisions,
        prompt_tokens=max(round(lengths * line.positive("isl")), 1),
        output_tokens=max(round(lengths * line.positive("osl")), 1),
    )  # fmt: skip
    for metric in ("ttft", "tpot"):
        if line.number_or_none(f"{metric}_ms") is None:
            continue
        if metric == "ttft" and clients is None:
            yield Unscored(file, "not recorded", "concurrency of a time to first token")
            continue
        yield RunRow(
            file=file, device=line.text("device"), subset=subset_of(line.flags()),
            label=(f"{model} {stack} tp{tensor} {line['isl']}+{line['osl']} tokens, "
                   f"concurrency {load:g}"),
            precision=word, metric=metric, figure=metric, measured=line.seconds(f"{metric}_ms"),
            deployments=(deployment,), concurrency=int(load), framework=stack, may_queue=True,
            protocol=protocol,
        )  # fmt: skip


def _can_cut(library: "Library", workload: str, ways: int) -> bool:
    """Return whether tensor parallelism cuts a model's query heads evenly, as every stack demands."""
    groups = library.workload(workload).layers
    heads = {group.layer.attention.heads for group in groups}
    return all(count % ways == 0 for count in heads)


def _served_precisions(line: Line, word: str, activations: str = "") -> Precisions:
    """Return the formats of a model on a serving stack.

    Activations that are not quantized keep one 16-bit format through the model, the KV cache
    included, and the LM head of a quantized checkpoint stays as wide.
    """
    from pentarch.workload.formats import number_format

    found = _precisions(line, word, activations)
    narrow = number_format(found.weights).bits <= NARROW_BITS
    head = "bf16" if narrow else None
    if number_format(found.activations).bits <= NARROW_BITS:
        return found.replace(lm_head=head)
    wide = "bf16" if narrow else found.activations
    return found.replace(activations=wide, kv=wide, hidden=wide, lm_head=head)


def sweep_rows(lines: Sequence[Line], file: str, library: "Library") -> Iterator[RunRow | Unscored]:
    """Yield TTFT, inter-token latency and throughput of a sweep over lengths and loads.

    The TTFT of several queries contains queueing: those rows are flagged. The file does not record
    the software; TensorRT-LLM is assumed, since the figures are credited to NVIDIA. All queries are
    of one length and keep in step.

    Raises:
        FieldError: A size or time is missing or wrong, or a format is unknown.
    """
    for line in lines:
        try:
            workload = known_workload(library, line.text("model"))
        except LookupError as error:
            yield Unscored(file, str(error.args[0]), str(error.args[1]), 3)
            continue
        devices, load = int(line.positive("n_devices")), int(line.positive("concurrency"))
        word = line.text("dtype")
        deployment = Deployment(
            workload=workload, device=_device(library, line.text("device")), devices=devices,
            tensor=devices, pipeline=1, runtime="trtllm", precisions=_served_precisions(line, word),
            prompt_tokens=int(line.positive("prompt_tokens")),
            output_tokens=int(line.positive("output_tokens")),
        )  # fmt: skip
        measured = {
            "ttft": ("ttft", line.seconds("ttft_ms")), "itl": ("tpot", line.seconds("itl_ms")),
            "throughput": ("throughput", line.positive("throughput_tok_s")),
        }  # fmt: skip
        for metric, (figure, value) in measured.items():
            queued = metric == "ttft" and load > 1
            yield RunRow(
                file=file, device=line.text("device"), metric=metric, figure=figure, measured=value,
                label=(f"{line['model']} {line['prompt_tokens']}+{line['output_tokens']} tokens, "
                       f"concurrency {load}"),
                subset="flagged" if queued else subset_of(line.flags()), precision=word,
                deployments=(deployment,), concurrency=load, protocol=Protocol(in_step=True),
            )  # fmt: skip


MLPERF_TOKENS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "llama2-70b": (294, 294), "gptj": (1100, 70), "llama3.1-8b": (780, 128),
        "llama3.1-405b": (9400, 680), "mixtral-8x7b": (325, 230), "deepseek-r1": (800, 3900),
    }
)  # fmt: skip
"""Mean tokens of prompt and answer by the beginning of the model's name (header of the file)."""

MLPERF_LIMITS: Mapping[tuple[str, str], Limits] = MappingProxyType(
    {
        ("llama2-70b", "Server"): Limits(ttft_s=2.0, tpot_s=0.2),
        ("llama2-70b", "Interactive"): Limits(ttft_s=0.45, tpot_s=0.04),
        ("llama3.1-8b", "Server"): Limits(ttft_s=2.0, tpot_s=0.1),
        ("llama3.1-8b", "Interactive"): Limits(ttft_s=0.5, tpot_s=0.03),
        ("llama3.1-405b", "Server"): Limits(ttft_s=6.0, tpot_s=0.175),
        ("llama3.1-405b", "Interactive"): Limits(ttft_s=4.5, tpot_s=0.08),
        ("mixtral-8x7b", "Server"): Limits(ttft_s=2.0, tpot_s=0.2),
        ("deepseek-r1", "Server"): Limits(ttft_s=2.0, tpot_s=0.08),
        ("gptj", "Server"): Limits(query_s=20.0),
    }
)
"""Limits of the scenarios. Those of llama2-70b are in the header of the file; the others are recalled
from the MLPerf Inference rules and were not read again."""

_MLPERF_UNITS: Mapping[str, tuple[str, str, float]] = MappingProxyType(
    {
        "Tokens/s": ("throughput", "throughput", 1.0), "Queries/s": ("throughput", "queries", 1.0),
        "Samples/s": ("throughput", "queries", 1.0), "Latency (ms)": ("latency", "query", 1e-3),
    }
)  # fmt: skip
"""Unit -> (metric, figure, factor to SI)."""


def mlperf_rows(
    lines: Sequence[Line], file: str, library: "Library"
) -> Iterator[RunRow | Unscored]:
    """Yield the results of closed-division systems, at the load and degree that serve most.

    Raises:
        FieldError: A number is missing or wrong, or the unit is unknown.
    """
    for line in lines:
        try:
            _only(line.text("division") == "closed", "not predicted", "open division")
            yield _mlperf_row(line, file, library)
        except LookupError as error:
            yield Unscored(file, str(error.args[0]), str(error.args[1]))


MLPERF_QUANTIZED: Mapping[str, str] = MappingProxyType(
    {"H100": "fp8", "H200": "fp8", "GH200": "fp8", "B200": "nvfp4"}
)
"""Part of an accelerator's name -> format in which NVIDIA's implementation runs what its submissions
call fp16: its configurations of round 4.1 say precision "fp16" and use_fp8 on every Hopper system
(inference_results_v4.1, closed/NVIDIA/configs/llama2-70b), and 0.87 of the fp16 peak would be needed
otherwise. For B200 of that round the format is recalled from NVIDIA's announcement."""


def _mlperf_format(stated: str, accelerator: str, software: str) -> str:
    if stated != "fp16" or "tensorrt" not in software.lower():
        return stated
    named = (form for part, form in MLPERF_QUANTIZED.items() if part in accelerator)
    return next(named, stated)


def _mlperf_row(line: Line, file: str, library: "Library") -> RunRow:
    model, scenario, unit = line.text("model"), line.text("scenario"), line.text("unit")
    known = next((name for name in MLPERF_TOKENS if model.startswith(name)), None)
    _only(known is not None, "unknown workload", model)
    workload = known_workload(library, model)
    accelerator = line.text("accelerator")
    if accelerator.startswith("none"):
        accelerator = line.text("processor")
    each = line.number_or_none("accel_per_node") or line.number("cpu_per_node")
    devices = int(each * line.positive("nodes"))
    if unit not in _MLPERF_UNITS:
        raise FieldError(
            where=line.where, path="unit", problem=f"found {unit!r}",
            expected=", ".join(_MLPERF_UNITS),
        )  # fmt: skip
    stated, software = line.text("weight_dtype"), line.get("software") or ""
    word = _mlperf_format(stated, accelerator, software)
    weights = format_name(word)
    _only(weights is not None, "unknown format", word)
    runtime = _runtime_in(library, software)
    _only(runtime is not None, "unknown software", software)
    prompt, output = MLPERF_TOKENS[str(known)]
    # Interactive results are tokens; some say Queries/s, which no device could compute.
    metric, figure, factor = _MLPERF_UNITS["Tokens/s" if scenario == "Interactive" else unit]
    device = _device(library, accelerator)
    degrees = [ways for ways in (1, 2, 4, 8) if each % ways == 0]
    deployments = tuple(
        Deployment(
            workload=workload,
            device=device,
            devices=devices,
            tensor=ways,
            pipeline=1,
            runtime=str(runtime),
            precisions=(_served_precisions if runtime in SERVING else _precisions)(line, word),
            prompt_tokens=prompt,
            output_tokens=output,
        )
        for ways in degrees
    )
    return RunRow(
        file=file, label=f"{line['id']} {model} {scenario} {devices}x {accelerator}",
        device=accelerator, subset="main", precision=stated, metric=metric, figure=figure,
        measured=line.positive("result") * factor, deployments=deployments,
        concurrency=1 if scenario == "SingleStream" else None, framework=str(runtime),
        limits=MLPERF_LIMITS.get((str(known), scenario), Limits()),
    )  # fmt: skip


SERVING = frozenset({"vllm", "sglang", "trtllm", "deepspeed"})
"""Runtimes that choose how many queries they serve at once."""

PUBLISHED: Mapping[tuple[str, str], tuple[str, str]] = MappingProxyType(
    {
        ("decode_only", "decode_tok_per_s"): ("throughput", "decode_rate"),
        ("decode_only-ish", "decode_tok_per_s"): ("throughput", "decode_rate"),
        ("decode_only", "tpot_s"): ("tpot", "tpot_static"),
        ("out_e2e", "decode_tok_per_s"): ("throughput", "throughput"),
        ("out_e2e", "power_w"): ("power", "power"),
        ("power", "power_w"): ("power", "power"),
        ("prefill", "prefill_tok_per_s"): ("throughput", "prefill_rate"),
        ("total_in_out", "total_tok_per_s"): ("throughput", "throughput_in_out"),
        ("ttft", "ttft_s"): ("ttft", "ttft_static"),
        ("energy", "energy_per_token_j"): ("energy", "energy"),
    }
)
"""(tag, metric) of a published row -> (metric, figure)."""


def published_rows(
    lines: Sequence[Line], file: str, library: "Library"
) -> Iterator[RunRow | Unscored]:
    """Yield the published rows that their file scores, by their tag.

    Raises:
        FieldError: A number is missing or wrong.
    """
    for line in lines:
        try:
            _only(line.number("scored") > 0, "not scored by its file", line.get("tag") or "no tag")
            yield _published_row(line, file, library)
        except LookupError as error:
            yield Unscored(file, str(error.args[0]), str(error.args[1]))


def _published_row(line: Line, file: str, library: "Library") -> RunRow:
    tag, metric = line.text("tag"), line.text("metric")
    _only((tag, metric) in PUBLISHED, "unknown tag", f"{tag} of {metric}")
    label = line.text("device")
    device = _device(library, label)
    if library.device_name(device) is None:
        raise _unknown_device(library, label)
    workload = known_workload(library, line.text("model"))
    software = line.get("software") or ""
    runtime = runtime_name(library, software)
    _only(runtime is not None, "unknown software", software)
    word = line.get("weight_dtype") or "fp16"
    _only(format_name(word) is not None, "unknown format", word)
    prompt, output = _lengths(line, tag, software)
    devices, batch = int(line.positive("n_devices")), line.number_or_none("batch")
    parallel = line.get("parallelism") or ""
    stated = int(parallel[2:]) if parallel.startswith("TP") and parallel[2:].isdigit() else None
    name, figure = PUBLISHED[tag, metric]
    formats = _served_precisions if runtime in SERVING else _precisions
    is_served = runtime in SERVING and tag in ("out_e2e", "total_in_out", "power")
    chooses = batch is None and is_served
    degrees = [stated or devices]
    if chooses and stated is None:
        degrees = [ways for ways in (1, 2, 4, 8) if devices % ways == 0]
    deployments = tuple(
        Deployment(
            workload=workload,
            device=device,
            devices=devices,
            tensor=ways,
            pipeline=1,
            runtime=str(runtime),
            precisions=formats(line, word, line.get("act_dtype") or ""),
            prompt_tokens=prompt,
            output_tokens=output,
        )
        for ways in degrees
    )
    return RunRow(
        file=file, label=line.text("id"), device=label, subset="main", precision=word, metric=name,
        figure=figure, measured=line.positive("value"), deployments=deployments,
        concurrency=None if chooses else int(batch or 1), framework=tag,
        may_queue=name in ("throughput", "power") and figure != "decode_rate",
    )  # fmt: skip


def _lengths(line: Line, tag: str, software: str) -> tuple[int, int]:
    """Return prompt and output tokens; MLPerf's own where a row of it leaves them out."""
    usual = (DEFAULT_LENGTH, 2 if tag == "prefill" else DEFAULT_LENGTH)
    if "MLPerf" in software:
        model = line.text("model").lower().replace("llama-2", "llama2").replace("gpt-j", "gptj")
        usual = next((one for name, one in MLPERF_TOKENS.items() if model.startswith(name)), usual)
    prompt, output = line.number_or_none("prompt_len"), line.number_or_none("output_len")
    return int(prompt or usual[0]), int(output or usual[1])


def forward_rows(
    lines: Sequence[Line], file: str, library: "Library"
) -> Iterator[RunRow | Unscored]:
    """Yield whole forward passes in FP32: the prefill of a batch, without a cache to read.

    Raises:
        FieldError: A size or time is missing or wrong.
    """
    precisions = Precisions(
        weights="fp32", activations="fp32", kv="fp32", hidden="fp32", lm_head="fp32"
    )
    for line in lines:
        try:
            workload = known_workload(library, line.text("model"))
        except LookupError as error:
            yield Unscored(file, str(error.args[0]), str(error.args[1]))
            continue
        is_fused = line.text("fused").lower() == "true"
        runtime = "compiled" if is_fused else "framework-eager"
        yield RunRow(
            file=file, device=line.text("device"), subset=subset_of(line.flags()), precision="fp32",
            label=f"{line['model']} {line['batch']} x {line['seq_len']} tokens, {runtime}",
            metric="latency", figure="ttft_static", measured=line.seconds("e2e_ms"),
            deployments=(Deployment(
                workload=workload, device=_device(library, line.text("device")), devices=1, tensor=1,
                pipeline=1, runtime=runtime, precisions=precisions,
                prompt_tokens=int(line.positive("seq_len")), output_tokens=1,
            ),),
            concurrency=int(line.positive("batch")), framework=runtime,
        )  # fmt: skip


def _precisions(line: Line, weights: str, activations: str = "") -> Precisions:
    """Return the formats of a run; what a file does not record follows the weights.

    Raises:
        FieldError: A format is unknown.
    """
    from pentarch.workload.formats import number_format

    name = format_name(weights)
    if name is None:
        raise FieldError(
            where=line.where, path="format", problem=f"found {weights!r}",
            expected="a number format such as bf16, fp8, nvfp4 or int4",
        )  # fmt: skip
    stored = number_format(name)
    wide = name if stored.bits > NARROW_BITS else "fp16"
    is_stored_only = stored.native_only_as_weights or stored.arithmetic == "integer"
    inner = format_name(activations) or (wide if is_stored_only else name)
    is_narrow = number_format(inner).bits <= NARROW_BITS
    return Precisions(weights=name, activations=inner, kv="fp8" if is_narrow else inner)


def _device(library: "Library", label: str) -> str:
    return library.device_name(label) or library.device_name(plain_label(label)) or label


def _unknown_device(library: "Library", label: str) -> LookupError:
    from pentarch.hardware.known_devices import known_class

    kind = known_class(plain_label(label))
    return LookupError("unknown device" if kind is None else f"no back-end yet ({kind})", label)


def _runtime_in(library: "Library", text: str) -> str | None:
    words = text.replace(",", " ").split()
    return next((found for word in words if (found := runtime_name(library, word))), None)


def _only(condition: bool, reason: str, name: str) -> None:
    if not condition:
        raise LookupError(reason, name)
