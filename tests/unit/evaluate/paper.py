"""A machine and a workload small enough for every figure to be worked out on paper.

The workload has one layer of hidden size 8 with one head of 8, a feed-forward block of 16, and a
vocabulary of 32. Its weights, one byte each in fp8:

    qkv 8 x 24 = 192   o 8 x 8 = 64   up 8 x 16 = 128   down 16 x 8 = 128     512 a layer
    LM head 8 x 32 = 256

and a query-key pair takes 8 + 8 = 16 MACs, a cached token 16 bytes.

The machine multiplies `macs_per_s` and streams `bytes_per_s`; an operator takes the longer of both.
Everything else costs nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from pentarch import Backend, Device, MachineTable, Partitioner, View, Workload, columns, hookimpl
from pentarch.contracts.partitioner import PartitionRequest
from pentarch.errors import InputError
from pentarch.evaluate.designs import run_designs
from pentarch.evaluate.explain import evaluation_of
from pentarch.evaluate.figures import Figures
from pentarch.evaluate.prepare import prepare
from pentarch.evaluate.scenario import Scenario
from pentarch.graph.table import AttentionTable, CollectiveTable, GemmTable
from pentarch.hardware.parts import (
    Area,
    Budget,
    Cost,
    Engine,
    EngineKind,
    Level,
    Overhead,
    Power,
    Program,
    Scope,
)
from pentarch.hardware.runtime import Runtime
from pentarch.hardware.system import System
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.plan.plan import Degrees, Placement, Plan, Stage
from pentarch.results import Evaluation
from pentarch.targets import Economics, Targets
from pentarch.workload.formats import number_format
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import (
    Activation,
    DenseFeedForward,
    GroupedQueryAttention,
    Layer,
    LayerGroup,
    Norm,
    NormKind,
)

LAYER_WEIGHTS = 192 + 64 + 128 + 128
HEAD_WEIGHTS = 256
PAIR_MACS = 16
KV_BYTES = 16

FP8 = Precisions(weights="fp8", activations="fp8", kv="fp8", hidden="fp8")
"""One format for everything: one byte a value."""


def paper_workload(*, layers: int = 1, heads: int = 1, kv_heads: int = 1) -> Workload:
    """Return the workload; more heads are narrower, so that the weights stay the same."""
    norm = Norm(kind=NormKind.RMS)
    layer = Layer(
        attention=GroupedQueryAttention(heads=heads, kv_heads=kv_heads, head_dim=8 // heads),
        feed_forward=DenseFeedForward(width=16, activation=Activation.RELU),
        attention_norm=norm,
        feed_forward_norm=norm,
    )
    return Workload(
        name="paper", family="paper", hidden=8, vocab=32, positions=4096, final_norm=norm,
        layers=(LayerGroup(name="layer", count=layers, layer=layer),),
    )  # fmt: skip


class PaperDevice(Device):
    """Rates, energies and prices, in numbers of a size for paper."""

    macs_per_s: float = 1000.0
    """MACs per second in fp8; bf16 runs at half of it."""
    bytes_per_s: float = 1000.0
    """Bandwidth of the memory."""
    memory_bytes: float = 1e6
    """Capacity of the memory."""
    buffer_bytes: float | None = None
    """Capacity of a buffer on chip; `None` for none."""
    buffer_keeps: tuple[str, ...] = ("weights", "kv", "activations", "partials")
    """What may live there."""
    mac_j: float | None = 2.0
    """Energy of a MAC."""
    byte_j: float | None = 3.0
    """Energy of a byte."""
    static_w: float | None = 7.0
    """Static power of the core."""
    memory_w: float = 1.0
    """Static power of the memory."""
    cap_w: float | None = None
    """Power cap."""
    board_w: float = 5.0
    """Power of the board."""
    regulator: float = 0.8
    """Efficiency of the regulators."""
    step_s: float = 0.0
    """Fixed time of a pass."""
    start_s: float = 0.0
    """Start of an operator."""
    die_mm2: float | None = None
    """Area."""
    luts: float | None = None
    """Lookup tables used, of 100."""
    vector_rate: float | None = None
    """Values per second of every primitive; `None` without a description."""
    part_usd: float | None = None
    """Cost of the one part."""


class PaperBackend(Backend[PaperDevice]):
    """Costs its operators itself, by the two lines of a roofline."""

    name: ClassVar[str] = "paper"
    about = "A machine for paper"
    device_model: ClassVar[type[PaperDevice]] = PaperDevice

    def machine(self, device: View[PaperDevice]) -> MachineTable:
        n = device.length
        levels = [
            columns(
                Level, n, name="memory", scope=Scope.DEVICE, size_bytes=device.memory_bytes,
                read_bytes_per_s=device.bytes_per_s, read_j_per_byte=device.byte_j,
                static_w=device.memory_w,
            )
        ]  # fmt: skip
        if device.template.buffer_bytes is not None:
            levels.append(
                columns(
                    Level, n, name="buffer", scope=Scope.DIE, size_bytes=device.buffer_bytes,
                    read_bytes_per_s=1e6, holds=frozenset(device.template.buffer_keeps),
                )
            )  # fmt: skip
        rates = {"fp8": device.macs_per_s, "bf16": device.macs_per_s / 2}
        energy = None if device.mac_j is None else dict.fromkeys(rates, device.mac_j)
        engine = columns(
            Engine, n, name="array", kind=EngineKind.MATRIX, feeds_from=levels[-1].name, units=1.0,
            clock_hz=1.0, macs_per_cycle=rates, mac_j=energy,
        )  # fmt: skip
        rate = device.vector_rate
        primitives = ("gemm", "elementwise", "reduce", "transcendental", "gather", "scan", "top-k")
        program = None
        if rate is not None:
            program = columns(
                Program, n, primitives=dict.fromkeys(primitives, rate), update_s=device.update_s,
                tape_out_year=device.year,
            )  # fmt: skip
        die, luts, part = device.die_mm2, device.luts, device.part_usd
        return MachineTable(
            name=device.template.name, backend=self.name, length=n, levels=tuple(levels),
            engines=(engine,), links=(),
            overhead=columns(
                Overhead, n, step_s=device.step_s, operator_start_s=device.start_s
            ),
            power=columns(
                Power, n, cap_w=device.cap_w, static_w=device.static_w, board_w=device.board_w,
                regulator_efficiency=device.regulator, nominal_v=1.0, min_v=0.5, threshold_v=0.0,
                alpha=2.0,
            ),
            area=None if die is None else columns(Area, n, parts_mm2={"die": die}),
            cost=columns(
                Cost, n, price_usd=device.price_usd, parts_usd=None if part is None else {"part": part}
            ),
            program=program,
            budget=None if luts is None else columns(
                Budget, n, available={"LUT": 100.0}, used={"LUT": luts}
            ),
            provenance={},
        )  # fmt: skip

    def cost_rows(self, request: RowRequest) -> RowCosts:
        return paper_costs(request)


def paper_costs(request: RowRequest) -> RowCosts:
    """Return macs / rate and bytes / bandwidth of each row; a collective takes bytes / bandwidth."""
    machine, rows, sequences = request.machine, request.rows, request.sequences
    macs, moved = np.zeros(sequences.shape), np.zeros(sequences.shape)
    rate = np.ones(sequences.shape)
    if isinstance(rows, GemmTable):
        visits = np.where(rows.experts == 0, 1.0, rows.experts_per_token)
        macs = (rows.rows * visits * rows.k * rows.n)[:, None] * sequences
        size = np.array([number_format(name).bytes for name in rows.b_formats])
        moved = (rows.k * rows.n * size)[:, None] * np.ones(sequences.shape)
        formats = rows.b_formats
    elif isinstance(rows, AttentionTable):
        macs = (rows.heads * rows.pairs * (rows.head_dim + rows.value_dim))[:, None] * sequences
        moved = (rows.kv_heads * rows.keys * (rows.head_dim + rows.value_dim))[:, None] * sequences
        formats = rows.kv_formats
    elif isinstance(rows, CollectiveTable):
        moved, formats = rows.bytes[:, None] * sequences, ()
    else:
        formats = ()
    for index, name in enumerate(formats):
        rate[index] = machine.engines[0].macs_per_cycle[name]
    if request.resident_weights is not None and isinstance(rows, GemmTable):
        moved = moved * (1.0 - request.resident_weights)
    if request.resident_kv is not None and isinstance(rows, AttentionTable):
        moved = moved * (1.0 - request.resident_kv)
    mac_j, byte_j = machine.engines[0].mac_j, machine.levels[0].read_j_per_byte
    return RowCosts(
        compute_s={"array": macs / rate},
        level_s={"memory": moved / machine.levels[0].read_bytes_per_s},
        fixed_s=np.zeros(sequences.shape), read_bytes={"memory": moved}, write_bytes={},
        energy_j={
            "array": None if mac_j is None else macs * mac_j["fp8"],
            "memory": None if byte_j is None else moved * byte_j,
        },
        executed_macs=macs, fits=np.ones(sequences.shape, dtype=np.bool_),
    )  # fmt: skip


MakePlan = Callable[[PartitionRequest], Plan]


def one_stage(request: PartitionRequest, *, devices: int = 1, data: int = 1) -> Plan:
    """Return the plan of one group of devices, every operator cut as it may be."""
    placements = tuple(
        Placement(
            operator=operator.name, repeat=operator.repeat,
            cut=operator.split, ways=devices if operator.split != "none" else 1,
        )
        for operator in request.graphs[0].operators
    )  # fmt: skip
    stage = Stage(backend="paper", device="paper", devices=devices, placements=placements)
    return Plan(
        workload=request.workload.name, system=request.system.name, partitioner="alone",
        degrees=Degrees(tensor=devices, data=data), stages=(stage,),
    )  # fmt: skip


class Alone(Partitioner):
    """Data parallel: every device holds a copy of the model; `degree` devices share one."""

    name: ClassVar[str] = "alone"
    about = "For tests"

    def partition(self, request: PartitionRequest) -> Plan:
        degree = request.degree or 1
        if request.system.devices % degree:
            raise InputError(f"{degree} does not divide {request.system.devices} devices.")
        return one_stage(request, devices=degree, data=request.system.devices // degree)


class Given(Partitioner):
    """Returns the plan that a function makes."""

    name: ClassVar[str] = "given"
    about = "For tests"

    def __init__(self, make: MakePlan) -> None:
        self._make = make

    def partition(self, request: PartitionRequest) -> Plan:
        return self._make(request)


class PaperPlugin:
    """Provides the back-end, the partitioner and catalogs."""

    def __init__(self, *catalogs: Any, backend: type[Backend[Any]] = PaperBackend) -> None:
        self._catalogs, self._backend = catalogs, backend

    @hookimpl
    def register_backends(self) -> list[type[Backend[Any]]]:
        return [self._backend]

    @hookimpl
    def register_partitioners(self) -> list[type[Partitioner]]:
        return [Alone]

    @hookimpl
    def register_catalogs(self) -> tuple[Any, ...]:
        return self._catalogs


def paper_scenario(**changes: Any) -> Scenario:
    """Return a scenario: 4 prompt tokens, 3 generated, one device at 10 W of host; with changes.

    Besides fields of `Scenario`, fields of `PaperDevice` and of `Query` can be named.
    """
    device_fields = {
        key: changes.pop(key) for key in list(changes) if key in PaperDevice.model_fields
    }
    query_fields = {key: changes.pop(key) for key in list(changes) if key in Query.model_fields}
    devices = changes.pop("devices", 1)
    base = Scenario(
        workload=paper_workload(),
        query=Query(**{"prompt_tokens": 4, "output_tokens": 3, **query_fields}),
        precisions=FP8, device=PaperDevice(name="paper", **device_fields), backend=PaperBackend(),
        system=System(name="paper", device="paper", devices=devices, host_w=10.0, host_usd=40.0),
        runtime=Runtime(name="ideal"), partitioner=Alone(), degree=None, targets=Targets(),
        economics=Economics(),
    )  # fmt: skip
    return replace(base, **changes)


def run(scenario: Scenario, *, length: int = 1, **columns: Any) -> Figures:
    """Return the figures of a scenario; swept fields as keywords, `concurrency` among them."""
    load = columns.pop("concurrency", None)
    swept = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    if swept:
        length = len(next(iter(swept.values())))
    if load is not None:
        load = np.asarray(load, dtype=np.float64)
        length = len(load)
    return run_designs(prepare(scenario), length=length, columns=swept, concurrency=load)


def evaluate(scenario: Scenario) -> Evaluation:
    """Return a scenario in full."""
    prepared = prepare(scenario)
    return evaluation_of(prepared, run_designs(prepared, length=1), 0, scenario=scenario)


def value(figures: Figures, name: str, index: int = 0) -> float:
    """Return one figure of one design, which must be known."""
    column = figures.values[name]
    assert column is not None, f"{name} is unknown"
    return float(column[index])
