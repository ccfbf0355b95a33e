"""A CPU as a machine: from datasheet figures to caches, engines and a menu of blocks."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pentarch.errors import FieldError
from pentarch.hardware import technology as tech
from pentarch.hardware.columns import Columns, columns
from pentarch.hardware.machine import MachineTable, provenance
from pentarch.hardware.parts import (
    Cost,
    Engine,
    EngineKind,
    Level,
    Link,
    Management,
    Overhead,
    Power,
    Program,
    Scope,
    Topology,
)
from pentarch.hardware.view import View
from pentarch.workload.formats import Arithmetic, number_format
from pentarch_cpu.device import MENU, CpuDevice

Floats = npt.NDArray[np.float64]

BACKEND = "cpu"
"""Name of the back-end."""

WORD_BYTES = 4.0
"""Bytes of the FP32 words in which vectors are counted."""

CONVERT_STEPS = 8.0
"""Operations on a vector of bytes that unpack, correct, widen and scale the weights in it."""


def describe(device: View[CpuDevice]) -> MachineTable:
    """Describe one socket or a batch of them; energies follow the node, static power the TDP."""
    log = tech.FigureLog()
    return MachineTable(
        name=device.template.name, backend=BACKEND, length=device.length,
        levels=_levels(device, log), engines=_engines(device, log), links=_links(device),
        overhead=columns(
            Overhead, device.length, operator_start_s=device.operator_start_s,
            barrier_s=barrier_seconds(device), overlap=device.overlap,
        ),
        power=_power(device, log), area=None, cost=_cost(device, log),
        program=_program(device), budget=None,
        provenance={
            figure.path: provenance(log.library.citation(figure.path), str(figure.grade))
            for figure in log.figures
        } | dict(device.template.sources),
    )  # fmt: skip


def barrier_seconds(device: View[CpuDevice]) -> Floats:
    """Return the time for all cores to meet at a counter whose line visits each of them, shape (N,)."""
    seconds: Floats = (device.cores - 1.0) * device.line_transfer_s
    return seconds


def stream_share(device: View[CpuDevice]) -> Floats:
    """Return the share of the channels' peak that long streams of all cores reach, shape (N,).

    Memory sustains a share of its peak, or of what the ports of the clusters let through where that
    is less; accesses to other NUMA domains lower it.
    """
    away = device.remote_share * (1.0 - 1.0 / device.numa_domains)
    share: Floats = device.memory_efficiency / (
        1.0 + away * (1.0 / device.remote_bandwidth_ratio - 1.0)
    )
    port: Floats | None = device.cluster_bytes_per_s
    if port is not None:
        share = share * np.minimum(device.clusters * port / _peak_bandwidth(device), 1.0)
    return share


def _peak_bandwidth(device: View[CpuDevice]) -> Floats:
    peak: Floats = device.memory_channels * device.channel_bytes_per_s
    return peak


def _levels(device: View[CpuDevice], log: tech.FigureLog) -> tuple[Columns[Level], ...]:
    energy, node = tech.dram_j_per_byte(device.memory, used=log), device.node
    memory = columns(
        Level, device.length, name=device.memory, scope=Scope.DEVICE, size_bytes=device.memory_bytes,
        read_bytes_per_s=_peak_bandwidth(device), stream_efficiency=stream_share(device),
        requester_bytes_per_s=device.core_bytes_per_s, latency_s=device.memory_latency_s,
        read_j_per_byte=energy, write_j_per_byte=energy,
    )  # fmt: skip
    per_core: Floats = device.l3_bytes_per_cycle * device.clock_hz
    shared = columns(
        Level, device.length, name="L3", scope=Scope.DEVICE, management=Management.CACHE,
        size_bytes=device.l3_bytes, usable=device.l3_share, read_bytes_per_s=per_core * device.cores,
        requester_bytes_per_s=per_core,
        read_j_per_byte=tech.sram_read_j_per_byte(device.l3_bytes, node, used=log),
        write_j_per_byte=tech.sram_write_j_per_byte(device.l3_bytes, node, used=log),
    )  # fmt: skip
    private = columns(
        Level, device.length, name="L2", scope=Scope.UNIT, instances=device.cores,
        size_bytes=device.l2_bytes, read_bytes_per_s=device.l2_bytes_per_cycle * device.clock_hz,
        read_j_per_byte=tech.sram_read_j_per_byte(device.l2_bytes, node, used=log),
        write_j_per_byte=tech.sram_write_j_per_byte(device.l2_bytes, node, used=log),
    )  # fmt: skip
    return memory, shared, private


def _mac_j(device: View[CpuDevice], name: str, log: tech.FigureLog) -> float:
    is_integer = number_format(name).arithmetic is Arithmetic.INTEGER
    formats = tech.MacFormats(a=name, b=name, accumulator="int32" if is_integer else "fp32")
    return float(tech.mac_j(formats, device.node, overhead=tech.DynamicOverhead.GPU, used=log))


def fed_share(device: View[CpuDevice], name: str, macs_per_cycle: Floats, block: Floats) -> Floats:
    """Return the share of its rate at which L2 can feed a unit in a format, shape (N,).

    A block of `block` x `block` outputs needs 2 / block words per multiply-accumulate.

    Args:
        device: N designs.
        name: Compute format.
        macs_per_cycle: Rate of the unit.
        block: Side of the block in registers.
    """
    needed = macs_per_cycle * number_format(name).bytes * 2.0 / block
    factor: Floats | float = device.format_efficiency.get(name, 1.0)
    share: Floats = np.minimum(device.l2_bytes_per_cycle / needed, 1.0) * factor
    return share


def _engines(device: View[CpuDevice], log: tech.FigureLog) -> tuple[Columns[Engine], ...]:
    return (*_matrix(device, log), _fma(device, log), _vector(device, log))


def _matrix(device: View[CpuDevice], log: tech.FigureLog) -> tuple[Columns[Engine], ...]:
    if device.matrix_unit is None:
        return ()
    rates: Mapping[str, Floats] = device.matrix_macs_per_cycle
    if not rates:
        raise FieldError(
            where=f"device {device.template.name}", path="matrix_macs_per_cycle", problem="is empty",
            expected=f"the rates of {device.matrix_unit} by format",
        )  # fmt: skip
    clock: Floats = device.clock_hz * device.matrix_clock_ratio
    issue = issue_j(device)
    return (
        columns(
            Engine, device.length, name=device.matrix_unit, kind=EngineKind.MATRIX, feeds_from="L2",
            tile_menu=MENU, units=device.cores, clock_hz=clock, macs_per_cycle=rates,
            mac_j={name: _mac_j(device, name, log) + issue / rate for name, rate in rates.items()},
            rows=device.matrix_block, columns=device.matrix_block, min_rows=device.matrix_rows,
            tile_start_cycles=device.block_start_s * clock,
            issue_efficiency=device.matrix_efficiency,
            format_efficiency={
                name: fed_share(device, name, rate, device.matrix_block)
                for name, rate in rates.items()
            },
        ),
    )  # fmt: skip


def simd_rates(device: View[CpuDevice]) -> dict[str, Floats]:
    """Return the multiply-accumulates per cycle and core of the SIMD ports by format."""
    return {"fp32": device.simd_bytes_per_cycle / WORD_BYTES, **device.dot_macs_per_cycle}


def _fma(device: View[CpuDevice], log: tech.FigureLog) -> Columns[Engine]:
    # The matrix unit shares its core's issue ports: what it can run is no work for both at once.
    taken = () if device.matrix_unit is None else tuple(device.matrix_macs_per_cycle)
    rates = {name: rate for name, rate in simd_rates(device).items() if name not in taken}
    issue = issue_j(device)
    return columns(
        Engine, device.length, name="SIMD", kind=EngineKind.MATRIX, feeds_from="L2", tile_menu=MENU,
        units=device.cores, clock_hz=device.clock_hz, macs_per_cycle=rates,
        mac_j={name: _mac_j(device, name, log) + issue / rate for name, rate in rates.items()},
        rows=device.simd_block, columns=device.simd_block,
        tile_start_cycles=device.block_start_s * device.clock_hz,
        issue_efficiency=device.simd_efficiency,
        format_efficiency={
            name: fed_share(device, name, rate, device.simd_block) for name, rate in rates.items()
        },
    )  # fmt: skip


def issue_j(device: View[CpuDevice]) -> Floats:
    """Return the energy of keeping the vector ports of one core supplied for a cycle, shape (N,)."""
    energy: Floats = device.vector_j_per_byte * device.simd_bytes_per_cycle
    return energy


def convert_rate(device: View[CpuDevice]) -> Floats:
    """Return the stored weights that one core converts per cycle, shape (N,)."""
    stated: Floats | None = device.convert_per_cycle
    return device.simd_bytes_per_cycle / CONVERT_STEPS if stated is None else stated


def _vector(device: View[CpuDevice], log: tech.FigureLog) -> Columns[Engine]:
    lanes: Floats = device.simd_bytes_per_cycle / WORD_BYTES
    slow: Floats = lanes * device.transcendental_share
    energy = _mac_j(device, "fp32", log) + issue_j(device) / lanes
    rates = {
        "elementwise": lanes, "reduce": lanes, "transcendental": slow,
        "convert": convert_rate(device), "gather": device.gather_per_cycle,
    }  # fmt: skip
    return columns(
        Engine, device.length, name="SIMD vector", kind=EngineKind.VECTOR, feeds_from="L2",
        units=device.cores, clock_hz=device.clock_hz, values_per_cycle=rates,
        value_j={name: energy * lanes / rate for name, rate in rates.items()},
    )  # fmt: skip


def _links(device: View[CpuDevice]) -> tuple[Columns[Link], ...]:
    if device.link is None:
        return ()
    if device.link_bytes_per_s is None:
        raise FieldError(
            where=f"device {device.template.name}", path="link_bytes_per_s", problem="is missing",
            expected=f"the bandwidth of one socket in one direction over {device.link}",
        )  # fmt: skip
    return (
        columns(
            Link, device.length, name=device.link, scope=Scope.DEVICE, topology=Topology.RING,
            degree=device.link_devices, bytes_per_s=device.link_bytes_per_s,
            latency_s=device.link_latency_s, message_overhead_s=device.link_message_s,
            efficiency=device.link_efficiency,
        ),
    )  # fmt: skip


def _power(device: View[CpuDevice], log: tech.FigureLog) -> Columns[Power]:
    curve = tech.voltage_curve(device.node, used=log)
    cap: Floats | None = device.power_cap_w
    return columns(
        Power, device.length, cap_w=cap, static_w=None if cap is None else cap * device.static_share,
        nominal_v=curve.nominal_v, min_v=curve.minimum_v, threshold_v=curve.threshold_v, alpha=curve.alpha,
    )  # fmt: skip


def _cost(device: View[CpuDevice], log: tech.FigureLog) -> Columns[Cost]:
    """The price of the processor with its memory; unknown where neither price is stated."""
    price: Floats | None = device.price_usd
    processor: Floats | None = device.processor_usd
    if price is None and processor is not None:
        price = processor + tech.memory_usd(device.memory, device.memory_bytes, used=log)
    return columns(Cost, device.length, price_usd=price)


def _program(device: View[CpuDevice]) -> Columns[Program]:
    """Every primitive runs; a new operator is a new binary."""
    cycles: Floats = device.cores * device.clock_hz
    lanes: Floats = device.simd_bytes_per_cycle / WORD_BYTES * cycles
    rates = [*simd_rates(device).values()]
    if device.matrix_unit is not None:
        rates += [
            rate * device.matrix_clock_ratio for rate in device.matrix_macs_per_cycle.values()
        ]
    primitives = {
        "gemm": np.max(rates, axis=0) * cycles, "elementwise": lanes, "reduce": lanes,
        "gather": device.gather_per_cycle * cycles,
        "transcendental": lanes * device.transcendental_share, "scan": lanes * device.scan_share,
        "top-k": device.irregular_per_cycle * cycles,
        "data-dependent-branch": device.irregular_per_cycle * cycles,
    }  # fmt: skip
    return columns(
        Program, device.length, primitives=primitives, tape_out_year=device.year,
        update_s=device.update_s,
    )  # fmt: skip
