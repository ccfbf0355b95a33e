from collections import Counter
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import link, machine

from pentarch.contracts.partitioner import Partitioner, PartitionRequest
from pentarch.errors import InputError
from pentarch.graph.build import build_graph
from pentarch.graph.lowering import lower
from pentarch.graph.operators import Phase
from pentarch.graph.table import OperatorTable
from pentarch.hardware.system import System
from pentarch.plan.plan import Plan
from pentarch.testing import PartitionerConformance
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload
from pentarch_partition.decoder_per_chip import DecoderPerChipPartitioner
from pentarch_partition.single import SinglePartitioner
from pentarch_partition.tensor import TensorPartitioner

QUERY = Query(prompt_tokens=32, output_tokens=8)
PLAIN = Precisions(weights="bf16", activations="bf16", kv="bf16")


class TestSingleConformance(PartitionerConformance):
    @pytest.fixture
    def partitioner(self) -> Partitioner:
        return SinglePartitioner()


class TestTensorConformance(PartitionerConformance):
    @pytest.fixture
    def partitioner(self) -> Partitioner:
        return TensorPartitioner()


class TestDecoderPerChipConformance(PartitionerConformance):
    @pytest.fixture
    def partitioner(self) -> Partitioner:
        return DecoderPerChipPartitioner()


class NoCoster:
    """Fails when asked: these partitioners need no costs."""

    def cost(self, plan: Plan) -> Any:
        raise AssertionError("no cost was needed")


def ask(
    workload: Workload, devices: int, degree: int | None = None, **system: Any
) -> PartitionRequest:
    graphs = tuple(
        build_graph(workload, phase=phase, query=QUERY, precisions=PLAIN) for phase in Phase
    )
    return PartitionRequest(
        workload=workload, graphs=graphs, query=QUERY, precisions=PLAIN,
        system=System(name="box", device="hand", devices=devices, **system), backend="hand",
        machine=machine(links=(link(degree=8.0),)), coster=NoCoster(), degree=degree,
    )  # fmt: skip


def tensor(workload: Workload, devices: int, degree: int | None = None) -> Plan:
    return TensorPartitioner().partition(ask(workload, devices, degree))


def lowered(workload: Workload, plan: Plan) -> OperatorTable:
    return lower(workload, query=QUERY, precisions=PLAIN, plan=plan)


def executed_flops(table: OperatorTable) -> float:
    """Return FLOPs of GEMM and attention rows on one device."""
    gemm, attention = table.gemm, table.attention
    visits = np.where(gemm.experts > 0, gemm.experts_per_token, 1.0)
    widths = attention.head_dim + attention.value_dim
    return float(
        2 * (gemm.executions * gemm.rows * visits * gemm.k * gemm.n).sum()
        + 2 * (attention.executions * attention.heads * attention.pairs * widths).sum()
    )


def test_a_block_has_two_all_reduces_and_the_model_two_gathers(make_llama: Any) -> None:
    workload = make_llama(counts=(5,))
    (stage,) = tensor(workload, 4).stages
    count = Counter[str]()
    for collective in stage.collectives:
        count[collective.function] += collective.repeat
        assert collective.degree == 4
    # Megatron: one all-reduce after attention and one after the feed-forward block of each layer
    assert count == {"all_reduce": 2 * 5, "all_gather": 2}


def test_collectives_move_the_residual_stream_and_the_logits(make_llama: Any) -> None:
    workload = make_llama(counts=(5,), hidden=64, vocab=1000)
    rows = lowered(workload, tensor(workload, 4)).collective
    moved = {
        (name.rpartition(".")[2], phase.value): float(size)
        for name, phase, size in zip(rows.names, rows.phases, rows.bytes, strict=True)
        if name.startswith(("group0", "lm_head"))
    }
    assert moved == {
        ("all_reduce", "prefill"): 32 * 64 * 2, ("all_reduce", "decode"): 64 * 2,
        ("all_gather", "prefill"): 1000 * 2, ("all_gather", "decode"): 1000 * 2,
    }  # fmt: skip
    # 5 layers x 2 kinds of block, 1 prefill and 7 decode steps
    total = rows.executions[[name.endswith("all_reduce") for name in rows.names]].sum()
    assert total == 5 * 2 * (1 + 7)


@pytest.mark.parametrize(
    ("shape", "each"),
    [
        ({"experts": (8, 2, 0)}, 2),
        ({"experts": (8, 2, 64)}, 2),  # attention; routed and shared experts together
        ({"parallel": True}, 1),  # attention and feed-forward block together
        ({"parallel": True, "experts": (8, 2, 64)}, 1),
    ],
)
def test_blocks_that_are_only_added_share_an_all_reduce_of_the_residual_stream(
    make_llama: Any, shape: dict[str, Any], each: int
) -> None:
    workload = make_llama(counts=(5,), hidden=64, **shape)
    rows = lowered(workload, tensor(workload, 4)).collective
    sums = [index for index, name in enumerate(rows.names) if name.endswith("all_reduce")]
    moved = Counter[str]()
    for index in sums:
        moved[rows.phases[index].value] += rows.executions[index] * rows.bytes[index]
    # 64 values of 2 bytes for each token of each layer: 32 in one prefill, one in each of 7 steps
    assert moved == {"prefill": each * 5 * 32 * 64 * 2, "decode": each * 5 * 7 * 64 * 2}
    assert rows.executions[sums].sum() == each * 5 * (1 + 7)


def test_a_plan_says_which_operators_share_an_all_reduce(make_llama: Any) -> None:
    workload = make_llama(counts=(3, 2), windows=(None, 8), experts=(8, 2, 64))
    assert tensor(workload, 4).notes == (
        "partial sums of expert_down and shared_down are added on each device and reduced once",
    )
    assert tensor(workload, 1).notes == ()


def test_one_device_communicates_nothing(make_llama: Any) -> None:
    (stage,) = tensor(make_llama(), 1).stages
    assert stage.collectives == ()


@pytest.mark.parametrize("degree", [2, 4])
@pytest.mark.parametrize("experts", [None, (8, 2, 0), (8, 2, 64)])
def test_devices_share_the_work_of_the_whole_where_dimensions_divide(
    make_llama: Any, degree: int, experts: tuple[int, int, int] | None
) -> None:
    workload = make_llama(heads=8, kv_heads=4, vocab=1024, experts=experts)
    whole = lowered(workload, SinglePartitioner().partition(ask(workload, 1)))
    part = lowered(workload, tensor(workload, degree))
    replicated = 0.0
    if experts is not None:  # the router runs on every device: hidden x experts for each token
        replicated = 2 * 2 * (32 + 7) * 64 * 8
    expected = executed_flops(whole) + (degree - 1) * replicated
    assert degree * executed_flops(part) == pytest.approx(expected, rel=1e-12)
    assert executed_flops(whole) == whole.useful_flops


def test_every_operator_is_placed_once(make_llama: Any) -> None:
    request = ask(make_llama(counts=(3, 2), windows=(None, 8)), 4)
    for partitioner in (SinglePartitioner(), TensorPartitioner()):
        (stage,) = partitioner.partition(request).stages
        placed = [(placement.operator, placement.repeat) for placement in stage.placements]
        assert placed == [(op.name, op.repeat) for op in request.graphs[0].operators]


def test_further_devices_hold_copies(make_llama: Any) -> None:
    plan = tensor(make_llama(), 8, 2)
    assert (plan.degrees.tensor, plan.degrees.data, plan.devices) == (2, 4, 8)
    single = SinglePartitioner().partition(ask(make_llama(), 8))
    assert (single.degrees.data, single.devices) == (8, 8)
    assert single.notes == ("each of 8 devices holds a copy of the model",)


@pytest.mark.parametrize("degree", [0, -1, 3, 16])
def test_a_degree_that_does_not_divide_the_system_is_an_error(make_llama: Any, degree: int) -> None:
    with pytest.raises(
        InputError, match=f"tensor degree of {degree} does not divide the 8 devices"
    ):
        tensor(make_llama(), 8, degree)


def test_single_refuses_a_degree_and_names_the_way_out(make_llama: Any) -> None:
    with pytest.raises(InputError, match="use the partitioner 'tensor'"):
        SinglePartitioner().partition(ask(make_llama(), 8, 2))
    assert SinglePartitioner().partition(ask(make_llama(), 8, 1)).devices == 8


def test_fewer_key_value_heads_than_devices_are_replicated_and_said_so(make_llama: Any) -> None:
    workload = make_llama(heads=8, kv_heads=2)
    plan = tensor(workload, 8)
    assert plan.notes == (
        "2 key-value heads are fewer than the tensor degree 8: each is replicated",
    )
    table = lowered(workload, plan)
    # one whole head on each of 8 devices, where two would do for all: 2 layers x 2 x 16 x 2 bytes
    assert table.kv_bytes_per_token.tolist() == [2 * 2 * 8 * 2]
    assert tensor(workload, 2).notes == ()


def test_plans_do_not_depend_on_who_asks_first(make_llama: Any) -> None:
    first, second = (tensor(make_llama(), 4) for _ in range(2))
    assert first == second


def test_a_chip_a_block_hands_the_residual_stream_on(make_llama: Any) -> None:
    workload = make_llama(counts=(6,))
    plan = DecoderPerChipPartitioner().partition(ask(workload, 6))
    assert plan.devices == 6
    assert sum(stage.copies for stage in plan.stages) == 6
    sends = sum(stage.copies * len(stage.sends) for stage in plan.stages)
    assert sends == 5
    whole = lowered(workload, SinglePartitioner().partition(ask(workload, 1)))
    assert executed_flops(lowered(workload, plan)) == pytest.approx(executed_flops(whole))
