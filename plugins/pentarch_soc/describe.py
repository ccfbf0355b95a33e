"""A custom SoC as a machine: from design parameters to levels, engines, area and price."""

import numpy as np
import numpy.typing as npt

from pentarch.hardware import technology as tech
from pentarch.hardware.columns import Columns, columns
from pentarch.hardware.machine import MachineTable, provenance
from pentarch.hardware.parts import (
    Area,
    Buffering,
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
    Stationary,
    Topology,
)
from pentarch.hardware.view import View
from pentarch_soc.device import SocDevice
from pentarch_soc.silicon import MODE_ENERGY, Silicon, design_silicon, mac_formats

Floats = npt.NDArray[np.float64]

IDLE_MAC = "operations.mac_energy_model.overhead.idle_mac_gated"
"""Figure of the energy of a clock-gated idle MAC / that of an active one."""

ONE_WAY = {"ucie_standard": 0.5, "pcie5": 1.0}
"""Share of the library's bandwidth that one direction has: it counts both of a UCIe module."""

BACKEND = "soc"
"""Name of the back-end."""


def describe(device: View[SocDevice]) -> MachineTable:
    """Describe one design or a batch of them.

    Energies and clocks are those of the design's supply. Static power is leakage, memory
    background and the clock power of idle arrays.
    """
    log = tech.FigureLog()
    supply = Supply(device, log)
    silicon = design_silicon(device, log)
    return MachineTable(
        name=device.template.name, backend=BACKEND, length=device.length,
        levels=_levels(device, supply, log),
        engines=(_arrays(device, supply), _vector(device, supply)),
        links=_links(device, log),
        overhead=columns(Overhead, device.length, operator_start_s=device.operator_start_s),
        power=_power(device, supply, silicon, log),
        area=columns(Area, device.length, parts_mm2=silicon.parts_mm2, reticle_mm2=tech.reticle_mm2(used=log)),
        cost=columns(
            Cost, device.length, parts_usd=silicon.parts_usd, price_usd=silicon.price_usd,
            nre_usd=silicon.nre_usd,
        ),
        program=_program(device, supply), budget=None,
        provenance={
            path: provenance(*cited) for path, cited in log.sources().items()
        } | dict(device.template.sources),
    )  # fmt: skip


class Supply:
    """Clock and energy of the core at the design's supply.

    Args:
        device: N designs.
        log: Log of the figures read.
    """

    def __init__(self, device: View[SocDevice], log: tech.FigureLog) -> None:
        node = device.node
        curve = tech.voltage_curve(node, used=log)
        self.nominal_v = curve.nominal_v
        self.min_v = curve.minimum_v
        self.threshold_v = curve.threshold_v
        self.alpha = curve.alpha
        self.voltage_v: Floats = device.voltage_v
        self.ratio: Floats = self.voltage_v / curve.nominal_v
        self.idle_mac = log.si(IDLE_MAC, owner="idle arrays")
        self.clock_hz: Floats = device.clock_hz * curve.frequency_ratio(self.voltage_v)
        per_mode = log.si(MODE_ENERGY, owner="elements of several formats")
        modes = 1.0 + per_mode * (len(device.macs_per_pe) - 1)
        self.mac_j: dict[str, Floats] = {
            name: np.broadcast_to(
                tech.mac_j(
                    mac_formats(device, name), node,
                    overhead=tech.DynamicOverhead.SYSTOLIC, voltage_ratio=self.ratio, used=log,
                ) * modes,
                (device.length,),
            )
            for name in device.macs_per_pe
        }  # fmt: skip

    @property
    def value_j(self) -> Floats:
        """Energy of one 16-bit vector operation: a bf16 MAC stands for it, an assumption."""
        return self.mac_j["bf16"] if "bf16" in self.mac_j else next(iter(self.mac_j.values()))


def _levels(
    device: View[SocDevice], supply: Supply, log: tech.FigureLog
) -> tuple[Columns[Level], ...]:
    node, memory = device.node, device.memory
    interfaces: Floats = device.memory_interfaces
    capacity = device.memory_bytes
    if capacity is None:
        capacity = interfaces * tech.memory_interface_bytes(memory, used=log)
    energy = tech.dram_j_per_byte(memory, used=log)
    outer = columns(
        Level, device.length, name=memory, scope=Scope.DEVICE, size_bytes=capacity,
        read_bytes_per_s=interfaces * tech.memory_interface_bytes_per_s(memory, used=log),
        stream_efficiency=tech.memory_bandwidth_fraction(memory, used=log),
        read_j_per_byte=energy, write_j_per_byte=energy, static_w=_background_w(device, log),
    )  # fmt: skip
    sram: Floats = device.sram_bytes
    registers: Floats = device.register_bytes
    port: Floats = device.sram_bytes_per_cycle * device.arrays * supply.clock_hz
    shared = columns(
        Level, device.length, name="scratchpad", scope=Scope.DEVICE, size_bytes=sram,
        management=Management.SOFTWARE, buffering=Buffering.DOUBLE, read_bytes_per_s=port,
        read_j_per_byte=tech.sram_read_j_per_byte(sram, node, voltage_ratio=supply.ratio, used=log),
        write_j_per_byte=tech.sram_write_j_per_byte(sram, node, voltage_ratio=supply.ratio, used=log),
    )  # fmt: skip
    ports = (device.array_rows + device.array_columns) * device.operand_bytes_per_cycle
    edge: Floats = ports * supply.clock_hz
    own = columns(
        Level, device.length, name="array buffer", scope=Scope.UNIT, size_bytes=registers,
        management=Management.SOFTWARE, buffering=Buffering.DOUBLE, instances=device.arrays,
        read_bytes_per_s=edge, write_bytes_per_s=edge,
        read_j_per_byte=tech.sram_read_j_per_byte(registers, node, voltage_ratio=supply.ratio, used=log),
        write_j_per_byte=tech.sram_write_j_per_byte(registers, node, voltage_ratio=supply.ratio, used=log),
    )  # fmt: skip
    return outer, shared, own


PLAIN_BACKGROUND_W = 0.1
"""Refresh and idle power of an LPDDR, GDDR or DDR interface: an assumption (`SocDevice`)."""


def _background_w(device: View[SocDevice], log: tech.FigureLog) -> Floats:
    """Return the memory's power that does not depend on traffic, shape (N,)."""
    interfaces: Floats = device.memory_interfaces
    if device.memory_background_w is not None:
        stated: Floats = interfaces * device.memory_background_w
        return stated
    if device.memory.startswith("hbm"):
        return np.asarray(tech.dram_background_w(interfaces, used=log))
    return interfaces * PLAIN_BACKGROUND_W


def _arrays(device: View[SocDevice], supply: Supply) -> Columns[Engine]:
    elements: Floats = device.array_rows * device.array_columns
    rates = {name: elements * per_pe for name, per_pe in device.macs_per_pe.items()}
    return columns(
        Engine, device.length, name="arrays", kind=EngineKind.MATRIX, feeds_from="array buffer",
        stationary=Stationary.OUTPUT, units=device.arrays, clock_hz=supply.clock_hz,
        macs_per_cycle=rates,
        mac_j={name: joules * (1.0 - supply.idle_mac) for name, joules in supply.mac_j.items()},
        rows=device.array_rows, columns=device.array_columns,
        fill_cycles=device.array_rows + device.array_columns,
    )  # fmt: skip


def _vector(device: View[SocDevice], supply: Supply) -> Columns[Engine]:
    rates = {"elementwise": 1.0, "reduce": 1.0, "convert": 1.0, "gather": 1.0}
    slow = device.transcendental_per_lane
    return columns(
        Engine, device.length, name="vector unit", kind=EngineKind.VECTOR, feeds_from="scratchpad",
        units=device.vector_lanes, clock_hz=supply.clock_hz,
        values_per_cycle={**rates, "transcendental": slow},
        value_j={**dict.fromkeys(rates, supply.value_j), "transcendental": supply.value_j / slow},
    )  # fmt: skip


def _links(device: View[SocDevice], log: tech.FigureLog) -> tuple[Columns[Link], ...]:
    if device.link == "none":
        return ()
    one_way = tech.link_bandwidth_bytes_per_s(device.link, used=log) * ONE_WAY[device.link]
    return (
        columns(
            Link, device.length, name=device.link, scope=Scope.DEVICE, topology=Topology.RING,
            degree=device.link_devices, bytes_per_s=one_way * device.link_ports,
            latency_s=device.link_latency_s,
            j_per_byte=tech.link_j_per_byte(device.link, used=log),
        ),
    )  # fmt: skip


def _power(
    device: View[SocDevice], supply: Supply, silicon: Silicon, log: tech.FigureLog
) -> Columns[Power]:
    storage = device.sram_bytes + device.arrays * device.register_bytes
    leakage = tech.leakage_w(
        device.node,
        logic_mm2=silicon.logic_mm2,
        sram_bytes=storage,
        voltage_v=supply.voltage_v,
        used=log,
    )
    elements = device.array_rows * device.array_columns * device.arrays
    # Clock and registers of an idle element draw a share of its main format's energy.
    main = next(iter(device.macs_per_pe))
    idle = (
        supply.mac_j[main] * device.macs_per_pe[main] * elements * supply.clock_hz * supply.idle_mac
    )
    cap = device.power_cap_w
    return columns(
        Power, device.length, cap_w=cap, static_w=leakage + idle, clock_w=idle, nominal_v=supply.voltage_v,
        min_v=np.minimum(supply.min_v, supply.voltage_v), threshold_v=supply.threshold_v,
        alpha=supply.alpha, regulator_efficiency=log.si("power.vr_efficiency", owner="voltage regulators"),
    )  # fmt: skip


def _program(device: View[SocDevice], supply: Supply) -> Columns[Program]:
    """A programmable vector unit with gather and a scalar sequencer runs every primitive."""
    lanes: Floats = device.vector_lanes * supply.clock_hz
    peak = np.max(list(device.macs_per_pe.values()), axis=0)
    elements = device.array_rows * device.array_columns * device.arrays
    rates: dict[str, Floats] = {
        "gemm": peak * elements * supply.clock_hz,
        "elementwise": lanes, "reduce": lanes, "gather": lanes,
        "transcendental": lanes * device.transcendental_per_lane,
        "scan": lanes * device.scan_per_lane, "top-k": lanes * device.irregular_per_lane,
        "data-dependent-branch": lanes * device.irregular_per_lane,
    }  # fmt: skip
    return columns(
        Program, device.length, primitives=rates, tape_out_year=device.year,
        update_s=device.update_s,
    )  # fmt: skip
