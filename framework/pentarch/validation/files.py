"""Validation files: recognized by their columns, read, and scored."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pentarch.errors import InputError
from pentarch.validation.aic import attention_rows, collective_rows, gemm_rows, moe_rows
from pentarch.validation.kernels import KernelRow
from pentarch.validation.labels import plain_label
from pentarch.validation.layers import (
    llmcompass_rows,
    neusight_rows,
    vidur_collective_rows,
    vidur_op_rows,
)
from pentarch.validation.lines import Line, columns_of, read_lines
from pentarch.validation.mapper import score_evaluator_oracle, score_mapper_oracle
from pentarch.validation.rows import ScoredRow, Unscored, count_unscored
from pentarch.validation.run_rooflines import run_roofline
from pentarch.validation.runs import RunPredictor, RunRow
from pentarch.validation.serving import (
    RunReader,
    forward_rows,
    mlperf_rows,
    published_rows,
    serving_rows,
    sweep_rows,
)

if TYPE_CHECKING:
    from pentarch.catalog import Library

OracleScorer = Callable[..., Iterator[ScoredRow]]
KernelReader = Callable[[Sequence[Line], str], Iterator[KernelRow]]


EAGER_FAMILY = "Xe"
"""Beginning of the names of families on which vLLM starts every kernel from the host."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of validation file; one of `oracle`, `kernels`, `runs` reads it, or none scores it."""

    name: str
    """What it holds."""
    columns: frozenset[str]
    """Columns that every file of the kind has."""
    oracle: OracleScorer | None = None
    """Predicts its rows itself."""
    kernels: KernelReader | None = None
    """Reads measured kernels."""
    runs: RunReader | None = None
    """Reads measured runs of whole models."""


def _kind(
    name: str, columns: str, *, oracle: OracleScorer | None = None,
    kernels: KernelReader | None = None, runs: RunReader | None = None,
) -> FileKind:  # fmt: skip
    return FileKind(name, frozenset(columns.split()), oracle=oracle, kernels=kernels, runs=runs)


KINDS = (
    _kind("least traffic behind one buffer", "kind M K N Skv buffer_bytes even_imperfect",
          oracle=score_mapper_oracle),
    _kind("traffic of given tilings", "order Tm Tk Tn M K N w p total", oracle=score_evaluator_oracle),
    _kind("prefill attention", "device kv_dtype batch seq_len heads kv_heads head_dim latency_ms",
          kernels=attention_rows),
    _kind("decode attention", "device kv_dtype batch kv_len heads kv_heads head_dim latency_ms",
          kernels=attention_rows),
    _kind("mixtures of experts", "device dtype num_tokens hidden_size inter_size topk num_experts "
          "moe_tp_size moe_ep_size distribution latency_ms kernel", kernels=moe_rows),
    _kind("collectives", "device library mode op num_gpus message_bytes latency_ms",
          kernels=collective_rows),
    _kind("collectives of systems", "system op num_gpus devices_per_node message_bytes latency_ms",
          kernels=vidur_collective_rows),
    _kind("operators of FP32 models", "device op b m n k h latency_ms", kernels=neusight_rows),
    _kind("operators of served layers", "device model op tp m n k latency_ms", kernels=vidur_op_rows),
    _kind("operators and a GPT-3 layer", "device op dtype m n k num_gpus latency_ms",
          kernels=llmcompass_rows),
    _kind("GEMMs", "device dtype m n k latency_ms", kernels=gemm_rows),
    _kind("serving sweeps", "device mode model_path backend isl osl concurrency tp_size ttft_ms tpot_ms",
          runs=serving_rows),
    _kind("a sweep over lengths and loads",
          "device n_devices model dtype prompt_tokens output_tokens concurrency ttft_ms itl_ms",
          runs=sweep_rows),
    _kind("MLPerf results", "division accelerator accel_per_node nodes model scenario result unit",
          runs=mlperf_rows),
    _kind("published runs", "id device n_devices model weight_dtype metric value tag scored",
          runs=published_rows),
    _kind("forward passes", "device model seq_len batch fused e2e_ms", runs=forward_rows),
    _kind("datasheet figures of devices", "device arch sms mem_bw_gbs tdp_w"),
)  # fmt: skip
"""Kinds of files, the most specific first."""


@dataclass(frozen=True, slots=True)
class Score:
    """Predictions of files."""

    rows: tuple[ScoredRow, ...]
    """Rows with a prediction."""
    unscored: tuple[Unscored, ...]
    """Rows without one, counted by what is missing."""


def score_files(paths: Iterable[Path], library: "Library | None" = None) -> Score:
    """Return predictions for every row of files and of the CSV files in folders.

    Args:
        paths: Files and folders.
        library: Where names are looked up; by default all installed plug-ins.

    Raises:
        InputError: A path does not exist, a named file has the columns of no known kind, or a line
            cannot be read.
    """
    if library is None:
        from pentarch.catalog import default_library

        library = default_library()
    rows: list[ScoredRow] = []
    unscored: list[Unscored] = []
    for path, is_named in _files(paths):
        lines = read_lines(path)
        kind = recognize(lines)
        if kind is None and is_named:
            known = "; ".join(f"{one.name} ({', '.join(sorted(one.columns))})" for one in KINDS)
            raise InputError(
                f"{path} has the columns of no validation file that can be scored. Known: {known}."
            )
        if kind is None:
            unscored.append(
                Unscored(path.name, "no validation file", "unknown columns", len(lines))
            )
            continue
        found = score_lines(kind, lines, path.name, library)
        rows.extend(found.rows)
        unscored.extend(found.unscored)
    return Score(tuple(rows), count_unscored(unscored))


def score_lines(kind: FileKind, lines: Sequence[Line], file: str, library: "Library") -> Score:
    """Return predictions for the lines of one file.

    Raises:
        InputError: A line cannot be read.
    """
    if kind.oracle is not None:
        return Score(tuple(kind.oracle(lines, file=file)), ())
    if kind.kernels is not None:
        return _score_kernels(kind.kernels(lines, file), library)
    if kind.runs is not None:
        return _score_runs(kind.runs(lines, file, library), library)
    return Score((), (Unscored(file, "not scored", kind.name, len(lines)),))


def kernel_rows(
    path: Path, library: "Library"
) -> tuple[tuple[KernelRow, ...], tuple[Unscored, ...]]:
    """Return the measured kernels of a file under the catalog's names, and what is not known.

    Raises:
        InputError: The file is no kernel file, or a line cannot be read.
    """
    lines = read_lines(path)
    kind = recognize(lines)
    if kind is None or kind.kernels is None:
        raise InputError(f"{path} holds no measured kernels. Expected a file of operator times.")
    return named_devices(kind.kernels(lines, path.name), library)


def recognize(lines: Sequence[Line]) -> FileKind | None:
    """Return the kind whose columns the lines have, or `None`."""
    columns = columns_of(lines)
    return next((kind for kind in KINDS if kind.columns <= columns), None)


def named_devices(
    rows: Iterable[KernelRow], library: "Library"
) -> tuple[tuple[KernelRow, ...], tuple[Unscored, ...]]:
    """Return rows under the catalog's names of devices, and those of devices that it lacks.

    On devices without captured graphs vLLM is the runtime `vllm-xpu`.
    """
    found: list[KernelRow] = []
    unscored: list[Unscored] = []
    known: dict[str, tuple[str | None, str]] = {}
    for row in rows:
        if row.device not in known:
            known[row.device] = _look_up(library, row.device)
        name, remark = known[row.device]
        if name is None:
            unscored.append(Unscored(row.file, remark, row.device))
            continue
        runtimes = row.runtimes
        if remark.startswith(EAGER_FAMILY):
            runtimes = tuple(_eager(one) for one in runtimes)
        found.append(replace(row, device=name, runtimes=runtimes))
    return tuple(found), count_unscored(unscored)


def _eager(runtime: str) -> str:
    return "vllm-xpu" if runtime == "vllm" else runtime


def _look_up(library: "Library", label: str) -> tuple[str | None, str]:
    """Return the catalog's name and family of a device, or `None` and why there is none."""
    from pentarch.hardware.known_devices import known_class

    name = library.device_name(label) or library.device_name(plain_label(label))
    if name is None:
        kind = known_class(plain_label(label))
        return None, "unknown device" if kind is None else f"no back-end yet ({kind})"
    device = library.device(name)
    family = library.backend_of(device).family_field
    return name, str(getattr(device, family)) if family is not None else ""


def _score_kernels(found: Iterable[KernelRow], library: "Library") -> Score:
    from pentarch.validation.predict import predict_all

    rows, unscored = named_devices(found, library)
    predicted = predict_all(rows, library)
    scored: list[ScoredRow] = []
    failed: list[Unscored] = []
    for row, seconds, roofline in zip(
        rows, predicted.seconds.tolist(), predicted.rooflines.tolist(), strict=True
    ):
        if not np.isfinite(seconds):
            failed.append(Unscored(row.file, f"cannot run on {row.device}", row.operator))
            continue
        scored.append(
            ScoredRow(
                label=row.label, file=row.file, device=row.device, operator=row.operator,
                metric="latency", precision=row.precision, subset=row.subset, predicted=seconds,
                measured=row.measured_s, framework=row.framework, kernel=row.kernel,
                roofline=roofline if np.isfinite(roofline) else None,
            )
        )  # fmt: skip
    return Score(tuple(scored), (*unscored, *count_unscored(failed)))


def _score_runs(found: Iterable[RunRow | Unscored], library: "Library") -> Score:
    rows: list[RunRow] = []
    unscored: list[Unscored] = []
    for entry in found:
        if isinstance(entry, Unscored):
            unscored.append(entry)
            continue
        name, remark = _look_up(library, entry.device)
        if name is None:
            unscored.append(Unscored(entry.file, remark, entry.device))
            continue
        deployments = entry.deployments
        if remark.startswith(EAGER_FAMILY):
            deployments = tuple(
                replace(one, runtime=_eager(one.runtime)) for one in entry.deployments
            )
        rows.append(replace(entry, device=name, deployments=deployments))
    scored: list[ScoredRow] = []
    for row, value in zip(rows, RunPredictor(library).predict(rows), strict=True):
        if isinstance(value, str):
            what = f"{row.deployments[0].workload} on {row.deployments[0].devices}x {row.device}"
            unscored.append(Unscored(row.file, value.split(":")[0], what))
            continue
        scored.append(
            ScoredRow(
                label=row.label, file=row.file, device=row.device, operator="query",
                metric=row.metric, precision=row.precision, subset=row.subset, predicted=value,
                measured=row.measured, framework=row.framework,
                roofline=run_roofline(row, library),
            )
        )  # fmt: skip
    return Score(tuple(scored), count_unscored(unscored))


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield files and whether they were named rather than found in a folder."""
    for path in paths:
        if path.is_dir():
            yield from ((file, False) for file in sorted(path.glob("*.csv")))
        else:
            yield path, True
