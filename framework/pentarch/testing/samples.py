"""Small inputs for the checks: a transformer of two layers, a chip, and a coster."""

from collections.abc import Sequence

from pentarch.contracts.partitioner import PartitionRequest, PlanCost
from pentarch.graph.build import build_graph
from pentarch.graph.operators import Phase
from pentarch.hardware.columns import columns
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import (
    Cost,
    Engine,
    EngineKind,
    Level,
    Link,
    Management,
    Overhead,
    Power,
    Scope,
)
from pentarch.hardware.system import System
from pentarch.plan.plan import Degrees, Placement, Plan, Stage
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import (
    Activation,
    DenseFeedForward,
    ExpertFeedForward,
    FeedForward,
    GroupedQueryAttention,
    Layer,
    LayerGroup,
    Norm,
    NormKind,
    Workload,
)

QUERY = Query(prompt_tokens=32, output_tokens=8)
"""A query that every sample workload can take."""

_PRIMITIVES = ("elementwise", "reduce", "transcendental", "convert")


def sample_workload(*, experts: int = 0, layers: int = 4) -> Workload:
    """Return a transformer of hidden size 64 with 8 heads.

    Args:
        experts: Experts of each feed-forward block, two per token; 0 for a dense block.
        layers: Decoder layers.
    """
    norm = Norm(kind=NormKind.RMS)
    dense = DenseFeedForward(width=128, activation=Activation.SILU, gated=True)
    block: FeedForward = dense
    if experts:
        block = ExpertFeedForward(experts=experts, experts_per_token=2, expert=dense)
    layer = Layer(
        attention=GroupedQueryAttention(heads=8, kv_heads=8, head_dim=8, rotary_dim=8),
        feed_forward=block,
        attention_norm=norm,
        feed_forward_norm=norm,
    )
    return Workload(
        name="sample",
        family="sample",
        hidden=64,
        vocab=512,
        positions=1024,
        layers=(LayerGroup(name="layer", count=layers, layer=layer),),
        final_norm=norm,
    )


def sample_plan(
    workload: Workload,
    *,
    precisions: Precisions | None = None,
    system: str = "sample",
    backend: str = "sample",
) -> Plan:
    """Return the plan that runs all of `workload` on one device."""
    graph = build_graph(
        workload, phase=Phase.PREFILL, query=QUERY, precisions=precisions or Precisions()
    )
    placements = tuple(
        Placement(operator=operator.name, repeat=operator.repeat) for operator in graph.operators
    )
    stage = Stage(backend=backend, device="sample", devices=1, placements=placements)
    return Plan(
        workload=workload.name,
        system=system,
        partitioner="sample",
        degrees=Degrees(),
        stages=(stage,),
    )


def sample_machine(
    *, name: str = "sample", backend: str = "sample", length: int = 1
) -> MachineTable:
    """Return `length` equal machines of two levels, two engines and a link."""
    memory = columns(
        Level, length, name="memory", scope=Scope.DEVICE, size_bytes=16e9,
        read_bytes_per_s=1e12, read_j_per_byte=40e-12, write_j_per_byte=40e-12,
    )  # fmt: skip
    scratchpad = columns(
        Level, length, name="scratchpad", scope=Scope.DIE, management=Management.SOFTWARE,
        size_bytes=16e6, read_bytes_per_s=2e13, read_j_per_byte=1e-12, write_j_per_byte=1e-12,
    )  # fmt: skip
    matrix = columns(
        Engine, length, name="matrix", kind=EngineKind.MATRIX, feeds_from="scratchpad", units=4.0,
        clock_hz=1e9, macs_per_cycle={"fp8": 16384.0, "bf16": 8192.0},
        mac_j={"fp8": 0.2e-12, "bf16": 0.4e-12},
    )  # fmt: skip
    vector = columns(
        Engine, length, name="vector", kind=EngineKind.VECTOR, feeds_from="scratchpad", units=4.0,
        clock_hz=1e9,
        values_per_cycle=dict.fromkeys(_PRIMITIVES, 128.0),
        value_j=dict.fromkeys(_PRIMITIVES, 1e-12),
    )  # fmt: skip
    link = columns(
        Link, length, name="link", scope=Scope.DEVICE, degree=8.0, bytes_per_s=1e11,
        latency_s=1e-6, j_per_byte=10e-12,
    )  # fmt: skip
    return MachineTable(
        name=name, backend=backend, length=length, levels=(memory, scratchpad),
        engines=(matrix, vector), links=(link,), overhead=columns(Overhead, length),
        power=columns(Power, length, static_w=20.0, cap_w=300.0), area=None,
        cost=columns(Cost, length, parts_usd={"die": 100.0}, price_usd=1000.0),
        program=None, budget=None, provenance={},
    )  # fmt: skip


class SampleCoster:
    """Says that every plan fits and that work is shared evenly by the devices of a stage."""

    def cost(self, plan: Plan) -> PlanCost:
        """Return times that fall with the degree and grow with the number of stages."""
        widest = max(stage.devices for stage in plan.stages)
        stages = sum(stage.copies for stage in plan.stages)
        hops = sum(len(stage.collectives) + len(stage.sends) for stage in plan.stages)
        step_s = 1e-3 / widest + 1e-6 * (stages + hops)
        return PlanCost(
            fits=True, reason="", ttft_s=10 * step_s, tpot_s=step_s, collective_s=1e-6 * hops
        )


def sample_request(
    *, devices: int, degree: int | None = None, experts: int = 0, boards: Sequence[int] = ()
) -> PartitionRequest:
    """Return a request to partition the sample workload.

    Args:
        devices: Devices of the system.
        degree: Degree asked for.
        experts: Experts of the workload; 0 for a dense one.
        boards: Devices per board, if the system has boards.
    """
    workload, precisions = sample_workload(experts=experts), Precisions()
    graphs = tuple(
        build_graph(workload, phase=phase, query=QUERY, precisions=precisions)
        for phase in (Phase.PREFILL, Phase.DECODE)
    )
    return PartitionRequest(
        workload=workload,
        graphs=graphs,
        query=QUERY,
        precisions=precisions,
        system=System(
            name="sample",
            device="sample",
            devices=devices,
            devices_per_board=boards[0] if boards else None,
        ),
        backend="sample",
        machine=sample_machine(),
        coster=SampleCoster(),
        degree=degree,
    )
