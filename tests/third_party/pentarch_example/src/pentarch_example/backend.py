"""The Example NPU as a pentarch back-end."""

from pentarch import Backend, Fidelity, MachineTable, OperatorKind, View, columns
from pentarch.hardware.columns import Columns
from pentarch.hardware.parts import (
    Buffering,
    Cost,
    Engine,
    EngineKind,
    Level,
    Overhead,
    Power,
    Program,
    Scope,
    Stationary,
)
from pentarch_example.device import NpuDevice

_PRIMITIVES = ("elementwise", "reduce", "transcendental", "convert", "gather")


class NpuBackend(Backend[NpuDevice]):
    """An output-stationary systolic array behind one scratchpad."""

    name = "npu"
    about = "Example NPU: one systolic array, one scratchpad, one memory"
    device_model = NpuDevice
    fidelity = Fidelity.ANALYTICAL
    operators = frozenset(OperatorKind)

    def machine(self, device: View[NpuDevice]) -> MachineTable:
        """Describe one design or a batch; the framework's engine costs operators on it."""
        count = device.length
        return MachineTable(
            name=device.template.name,
            backend=self.name,
            length=count,
            levels=_levels(device),
            engines=(_array(device), _vector(device)),
            links=(),
            overhead=columns(Overhead, count),
            power=columns(Power, count, static_w=device.static_w),
            area=None,
            cost=columns(Cost, count, price_usd=device.price_usd),
            program=_program(device),
            budget=None,
            provenance=dict(device.template.sources),
        )


def _levels(device: View[NpuDevice]) -> tuple[Columns[Level], Columns[Level]]:
    memory = columns(
        Level,
        device.length,
        name="memory",
        scope=Scope.DEVICE,
        size_bytes=device.memory_bytes,
        read_bytes_per_s=device.memory_bytes_per_s,
        read_j_per_byte=device.memory_j_per_byte,
        write_j_per_byte=device.memory_j_per_byte,
    )
    scratchpad = columns(
        Level,
        device.length,
        name="scratchpad",
        scope=Scope.DIE,
        buffering=Buffering.DOUBLE,
        size_bytes=device.scratchpad_bytes,
        read_bytes_per_s=(device.rows + device.columns) * device.clock_hz,
        read_j_per_byte=device.scratchpad_j_per_byte,
        write_j_per_byte=device.scratchpad_j_per_byte,
    )
    return memory, scratchpad


def _array(device: View[NpuDevice]) -> Columns[Engine]:
    return columns(
        Engine,
        device.length,
        name="array",
        kind=EngineKind.MATRIX,
        feeds_from="scratchpad",
        stationary=Stationary.OUTPUT,
        units=1.0,
        clock_hz=device.clock_hz,
        macs_per_cycle={"int8": device.rows * device.columns},
        mac_j={"int8": device.mac_j},
        rows=device.rows,
        columns=device.columns,
        fill_cycles=device.rows + device.columns,
    )


def _vector(device: View[NpuDevice]) -> Columns[Engine]:
    return columns(
        Engine,
        device.length,
        name="vector",
        kind=EngineKind.VECTOR,
        feeds_from="scratchpad",
        units=1.0,
        clock_hz=device.clock_hz,
        values_per_cycle=dict.fromkeys(_PRIMITIVES, device.lanes),
        value_j=dict.fromkeys(_PRIMITIVES, device.mac_j),
    )


def _program(device: View[NpuDevice]) -> Columns[Program]:
    rates = dict.fromkeys(_PRIMITIVES, device.lanes * device.clock_hz)
    return columns(
        Program,
        device.length,
        primitives={"gemm": device.rows * device.columns * device.clock_hz, **rates},
        tape_out_year=device.year,
        update_s=device.update_s,
    )
