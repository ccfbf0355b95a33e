"""A GPU as a machine: from datasheet figures to a cache and a tile menu."""

import numpy as np
import numpy.typing as npt

from pentarch.errors import FieldError
from pentarch.hardware import technology as tech
from pentarch.hardware.columns import Columns, columns
from pentarch.hardware.machine import MachineTable, provenance
from pentarch.hardware.parts import (
    Area,
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
from pentarch_gpu.device import MENU, GpuDevice

Floats = npt.NDArray[np.float64]

MMA_ROWS = 64.0
"""Rows of the widest matrix instruction, 64 in Hopper's `wgmma` (PTX ISA); taken for every GPU, an
assumption. A word of B read from the scratchpad serves so many."""

BACKEND = "gpu"
"""Name of the back-end."""


def describe(device: View[GpuDevice]) -> MachineTable:
    """Describe one GPU or a batch of them; energies follow the node, static power the TDP."""
    log = tech.FigureLog()
    return MachineTable(
        name=device.template.name, backend=BACKEND, length=device.length,
        levels=_levels(device, log), engines=(_tensor(device, log), _vector(device, log)),
        links=_links(device, log),
        overhead=columns(
            Overhead, device.length, operator_start_s=device.kernel_start_s, step_s=device.step_s,
            overlap=device.overlap,
        ),
        power=_power(device, log), area=_area(device), cost=_cost(device, log),
        program=_program(device), budget=None,
        provenance={
            path: provenance(*cited) for path, cited in log.sources().items()
        } | dict(device.template.sources),
    )  # fmt: skip


def _levels(device: View[GpuDevice], log: tech.FigureLog) -> tuple[Columns[Level], ...]:
    # The power limit is one of the board, so every energy is counted before the board's regulators.
    input_j = 1.0 / log.si("power.vr_efficiency", owner="voltage regulators")
    energy = tech.dram_j_per_byte(device.memory, used=log) * input_j
    node, units = device.node, device.multiprocessors
    background = (
        tech.dram_background_w(device.hbm_stacks, used=log)
        if device.memory.startswith("hbm") else 0.0
    )  # fmt: skip
    memory = columns(
        Level, device.length, name=device.memory, scope=Scope.DEVICE, size_bytes=device.memory_bytes,
        read_bytes_per_s=device.memory_bytes_per_s, requester_bytes_per_s=_draw(device),
        latency_s=device.memory_latency_s, stream_efficiency=device.memory_efficiency,
        read_j_per_byte=energy, write_j_per_byte=energy, static_w=background,
    )  # fmt: skip
    per_unit = _feed(device)
    cache = columns(
        Level, device.length, name="L2", scope=Scope.DEVICE, management=Management.CACHE,
        size_bytes=device.l2_bytes, usable=device.cache_share, read_bytes_per_s=per_unit * units,
        requester_bytes_per_s=per_unit,
        read_j_per_byte=input_j * tech.sram_read_j_per_byte(device.l2_bytes, node, used=log),
        write_j_per_byte=input_j * tech.sram_write_j_per_byte(device.l2_bytes, node, used=log),
    )  # fmt: skip
    own = columns(
        Level, device.length, name="shared memory", scope=Scope.UNIT, instances=units,
        size_bytes=device.sm_bytes, usable=device.sm_usable,
        read_bytes_per_s=device.sm_bytes_per_cycle * device.clock_hz,
        read_j_per_byte=input_j * tech.sram_read_j_per_byte(device.sm_bytes, node, used=log),
        write_j_per_byte=input_j * tech.sram_write_j_per_byte(device.sm_bytes, node, used=log),
    )  # fmt: skip
    return memory, cache, own


LEAST_DRAW = 30e9
"""Bytes per second that the loads in flight of one multiprocessor draw at least."""

DRAW_SHARE = 1.5
"""What a multiprocessor can draw from memory / its share of the whole bandwidth, by design."""

STACKED_SHARE, FLAT_SHARE = 0.89, 0.99
"""Prior of `tile_stream_share` behind stacked memory, and behind other memory."""

STEP_BYTES = 128.0
"""Bytes of a row of A that one k step of a tile takes: a line of shared memory."""


def _draw(device: View[GpuDevice]) -> Floats:
    """Return the memory bandwidth that one multiprocessor can draw, shape (N,)."""
    share = DRAW_SHARE * device.memory_bytes_per_s / device.multiprocessors
    drawn: Floats = np.maximum(LEAST_DRAW, share) * device.sm_memory_ratio
    return drawn


def _feed(device: View[GpuDevice]) -> Floats:
    """Return the rate at which one multiprocessor draws operands from L2, shape (N,).

    It goes with the 16-bit matrix peak; devices without one have half of that in 32 bits.
    """
    peaks = device.peak_flops_per_s
    peak = next((peaks[name] for name in ("bf16", "fp16") if name in peaks), None)
    if peak is None:
        peak = 2.0 * device.vector_flops_per_s
    rate: Floats = device.cache_bytes_per_mac * peak / 2.0 / device.multiprocessors
    return rate


def _tile_stream_share(device: View[GpuDevice]) -> Floats | float:
    """Return what tiles reach of the bandwidth of long streams, shape (N,) or one number."""
    share: Floats | None = device.tile_stream_share
    if share is not None:
        return share
    return STACKED_SHARE if device.memory.startswith("hbm") else FLAT_SHARE


def _accumulator(name: str) -> str:
    return "int32" if number_format(name).arithmetic is Arithmetic.INTEGER else "fp32"


def _mac_j(device: View[GpuDevice], name: str, log: tech.FigureLog) -> float:
    formats = tech.MacFormats(a=name, b=name, accumulator=_accumulator(name))
    return float(tech.mac_j(formats, device.node, overhead=tech.DynamicOverhead.GPU, used=log))


def _tile_mac_j(device: View[GpuDevice], name: str, log: tech.FigureLog) -> Floats:
    """Return the energy of a multiply-accumulate in a matrix unit, shape (N,)."""
    ratio = device.mac_energy_ratio * device.format_energy.get(name, 1.0)
    energy: Floats = _mac_j(device, name, log) * ratio
    return energy


def _tensor(device: View[GpuDevice], log: tech.FigureLog) -> Columns[Engine]:
    cycles: Floats = device.multiprocessors * device.clock_hz
    rates = {name: peak / 2.0 / cycles for name, peak in device.peak_flops_per_s.items()}
    return columns(
        Engine, device.length, name="tensor cores", kind=EngineKind.MATRIX, feeds_from="shared memory",
        tile_menu=MENU, units=device.multiprocessors, clock_hz=device.clock_hz, macs_per_cycle=rates,
        mac_j={name: _tile_mac_j(device, name, log) for name in rates},
        rows=MMA_ROWS, columns=MMA_ROWS, min_rows=device.min_rows,
        tile_start_cycles=device.tile_start_s * device.clock_hz,
        issue_efficiency=device.issue_efficiency, format_efficiency=device.format_efficiency,
        k_step_bytes=STEP_BYTES, k_step_s=device.k_step_s, split_s=device.split_s,
        drain_bytes_per_s=device.drain_ratio * _feed(device), wave_share=device.wave_share,
        tile_stream_share=_tile_stream_share(device),
    )  # fmt: skip


def _vector(device: View[GpuDevice], log: tech.FigureLog) -> Columns[Engine]:
    cycles: Floats = device.multiprocessors * device.clock_hz
    lanes: Floats = device.vector_flops_per_s / 2.0 / cycles
    energy = _mac_j(device, "fp32", log)
    slow: Floats = device.transcendental_per_cycle
    fast = ("elementwise", "reduce", "convert", "gather")
    return columns(
        Engine, device.length, name="CUDA cores", kind=EngineKind.VECTOR, feeds_from="shared memory",
        units=device.multiprocessors, clock_hz=device.clock_hz,
        values_per_cycle={**dict.fromkeys(fast, lanes), "transcendental": slow},
        value_j={**dict.fromkeys(fast, energy), "transcendental": energy * device.transcendental_energy_ratio},
    )  # fmt: skip


NETWORK_REACH = 4096.0
"""Boards that a network joins; its size is no limit of the device, an assumption."""


def _links(device: View[GpuDevice], log: tech.FigureLog) -> tuple[Columns[Link], ...]:
    """Return the link of a board and the network between boards, as far as the device has them."""
    return (*_board_link(device, log), *_network(device, log))


def _network(device: View[GpuDevice], log: tech.FigureLog) -> tuple[Columns[Link], ...]:
    if device.network is None:
        return ()
    return (
        columns(
            Link, device.length, name=device.network, scope=Scope.BOARD, topology=Topology.SWITCH,
            degree=NETWORK_REACH, bytes_per_s=device.known("network_bytes_per_s"),
            latency_s=device.network_latency_s, message_overhead_s=device.link_message_s,
            efficiency=device.link_efficiency, j_per_byte=tech.link_j_per_byte(device.network, used=log),
        ),
    )  # fmt: skip


def _board_link(device: View[GpuDevice], log: tech.FigureLog) -> tuple[Columns[Link], ...]:
    if device.link is None:
        return ()
    if device.link_bytes_per_s is None:
        raise FieldError(
            where=f"device {device.template.name}", path="link_bytes_per_s", problem="is missing",
            expected=f"the bandwidth of one GPU in one direction over {device.link}",
        )  # fmt: skip
    return (
        columns(
            Link, device.length, name=device.link, scope=Scope.DEVICE, topology=Topology.SWITCH,
            in_network_reduction=device.in_network_reduction, degree=device.link_devices,
            bytes_per_s=device.link_bytes_per_s, latency_s=device.link_latency_s,
            message_overhead_s=device.link_message_s, efficiency=device.link_efficiency,
            j_per_byte=tech.link_j_per_byte(device.link, used=log),
        ),
    )  # fmt: skip


def _power(device: View[GpuDevice], log: tech.FigureLog) -> Columns[Power]:
    curve = tech.voltage_curve(device.node, used=log)
    return columns(
        Power, device.length, cap_w=device.power_cap_w, static_w=device.power_cap_w * device.static_share,
        nominal_v=curve.nominal_v, min_v=curve.minimum_v, threshold_v=curve.threshold_v, alpha=curve.alpha,
    )  # fmt: skip


def _area(device: View[GpuDevice]) -> Columns[Area] | None:
    die = device.die_mm2
    return None if die is None else columns(Area, device.length, parts_mm2={"die": die})


def _cost(device: View[GpuDevice], log: tech.FigureLog) -> Columns[Cost]:
    """A bill of material where die and memory stacks are known; the price is a dated quotation."""
    die, stacks = device.die_mm2, device.hbm_stacks
    parts: dict[str, Floats] | None = None
    if die is not None and device.template.hbm_stacks > 0:
        raw = np.asarray(tech.raw_die_usd(die, device.node, used=log))
        silicon = np.asarray(tech.die_usd(die, device.node, sellable=device.sellable, used=log))
        memory = np.asarray(tech.memory_usd(device.memory, device.memory_bytes, used=log))
        package = np.asarray(tech.cowos_package_usd(die, stacks, used=log))
        survived = tech.bonding_yield(1.0 + stacks, tech.Package.COWOS, used=log)
        parts = {
            "die": raw,
            "yield loss": silicon - raw,
            "memory": memory,
            "package": package,
            "test": np.asarray(tech.chip_test_usd(silicon, tech.Package.COWOS, used=log)),
            "assembly loss": (silicon + memory + package) * (1.0 / survived - 1.0),
        }
    return columns(Cost, device.length, parts_usd=parts, price_usd=device.price_usd)


def _program(device: View[GpuDevice]) -> Columns[Program]:
    """Every primitive runs; scans, sorts and divergent branches at a fraction of the vector rate."""
    lanes: Floats = device.vector_flops_per_s / 2.0
    cycles: Floats = device.multiprocessors * device.clock_hz
    peak = np.max(list(device.peak_flops_per_s.values()), axis=0) / 2.0
    rates = {
        "gemm": peak, "elementwise": lanes, "reduce": lanes, "gather": device.gather_per_cycle * cycles,
        "transcendental": device.transcendental_per_cycle * cycles, "scan": lanes * device.scan_share,
        "top-k": lanes * device.irregular_share,
        "data-dependent-branch": lanes * device.irregular_share,
    }  # fmt: skip
    return columns(
        Program, device.length, primitives=rates, tape_out_year=device.year,
        update_s=device.update_s,
    )  # fmt: skip
