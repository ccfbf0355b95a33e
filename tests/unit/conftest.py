"""Workloads and plans that unit tests share, spelled out by hand: no plug-in is involved."""

from collections.abc import Callable
from typing import Any

import pytest

from pentarch.graph.build import build_graph
from pentarch.graph.operators import Phase
from pentarch.plan.plan import Degrees, Placement, Plan, Stage
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import (
    Activation,
    DenseFeedForward,
    ExpertFeedForward,
    GroupedQueryAttention,
    Layer,
    LayerGroup,
    Norm,
    NormKind,
    PositionEmbedding,
    Workload,
)

MakeWorkload = Callable[..., Workload]
MakePlan = Callable[..., Plan]


def llama_like(
    name: str = "tiny-llama",
    *,
    hidden: int = 64,
    vocab: int = 1000,
    counts: tuple[int, ...] = (2,),
    windows: tuple[int | None, ...] = (None,),
    heads: int = 4,
    kv_heads: int = 4,
    head_dim: int | None = None,
    width: int = 256,
    experts: tuple[int, int, int] | None = None,
    tied: bool = False,
    parallel: bool = False,
) -> Workload:
    """Return a Llama-like workload; one layer group for each count and window.

    `experts` are routed experts, experts per token, and the width of a shared block (0 for none).
    """
    norm = Norm(kind=NormKind.RMS)
    block: Any = DenseFeedForward(width=width, activation=Activation.SILU, gated=True)
    if experts is not None:
        routed, per_token, shared = experts
        block = ExpertFeedForward(
            experts=routed,
            experts_per_token=per_token,
            expert=block,
            shared=block.replace(width=shared) if shared else None,
        )
    dim = hidden // heads if head_dim is None else head_dim
    groups = tuple(
        LayerGroup(
            name=f"group{index}",
            count=count,
            layer=Layer(
                attention=GroupedQueryAttention(
                    heads=heads, kv_heads=kv_heads, head_dim=dim, rotary_dim=dim, window=window
                ),
                feed_forward=block,
                attention_norm=norm,
                feed_forward_norm=norm,
                parallel=parallel,
            ),
        )
        for index, (count, window) in enumerate(zip(counts, windows, strict=True))
    )
    return Workload(
        name=name, family="hand", hidden=hidden, vocab=vocab, positions=8192, tied=tied,
        layers=groups, final_norm=norm,
    )  # fmt: skip


def gpt_like(
    name: str = "tiny-gpt",
    *,
    hidden: int = 64,
    vocab: int = 1000,
    count: int = 2,
    heads: int = 4,
    positions: int = 512,
) -> Workload:
    """Return a GPT-like workload: biases everywhere, learned positions, a tied LM head."""
    norm = Norm(kind=NormKind.LAYER, bias=True)
    layer = Layer(
        attention=GroupedQueryAttention(
            heads=heads, kv_heads=heads, head_dim=hidden // heads, qkv_bias=True, output_bias=True
        ),
        feed_forward=DenseFeedForward(width=4 * hidden, activation=Activation.GELU, bias=True),
        attention_norm=norm,
        feed_forward_norm=norm,
    )
    return Workload(
        name=name, family="hand", hidden=hidden, vocab=vocab, positions=positions, tied=True,
        position_embedding=PositionEmbedding.LEARNED, final_norm=norm,
        layers=(LayerGroup(name="decoder", count=count, layer=layer),),
    )  # fmt: skip


PLAIN = Precisions(weights="bf16", activations="bf16", kv="bf16")
"""One format for everything: graphs without conversions."""


def single_stage_plan(workload: Workload, *, ways: int = 1, precisions: Precisions = PLAIN) -> Plan:
    """Return the plan of one group of `ways` devices that cuts every operator as it may be cut."""
    graph = build_graph(workload, phase=Phase.PREFILL, query=Query(), precisions=precisions)
    placements = tuple(
        Placement(operator=operator.name, repeat=operator.repeat, cut=operator.split, ways=ways)
        for operator in graph.operators
    )
    stage = Stage(backend="hand", device="hand", devices=ways, placements=placements)
    return Plan(
        workload=workload.name,
        system="hand",
        partitioner="hand",
        degrees=Degrees(tensor=ways),
        stages=(stage,),
    )


@pytest.fixture(scope="session")
def make_llama() -> MakeWorkload:
    """Give the builder of Llama-like workloads."""
    return llama_like


@pytest.fixture(scope="session")
def make_gpt() -> MakeWorkload:
    """Give the builder of GPT-like workloads."""
    return gpt_like


@pytest.fixture(scope="session")
def make_plan() -> MakePlan:
    """Give the builder of one-stage plans."""
    return single_stage_plan


@pytest.fixture(scope="session")
def llama_3_8b() -> Workload:
    """Llama 3 8B: 32 layers, hidden 4096, 32 heads on 8 key-value heads, width 14336."""
    return llama_like(
        "llama-3-8b", hidden=4096, vocab=128256, counts=(32,), heads=32, kv_heads=8, width=14336
    )


@pytest.fixture(scope="session")
def llama_2_70b() -> Workload:
    """Llama 2 70B: 80 layers, hidden 8192, 64 heads on 8 key-value heads, width 28672."""
    return llama_like(
        "llama-2-70b", hidden=8192, vocab=32000, counts=(80,), heads=64, kv_heads=8, width=28672
    )


@pytest.fixture(scope="session")
def gpt3_175b() -> Workload:
    """GPT-3: 96 layers, hidden 12288, 96 heads."""
    return gpt_like("gpt3-175b", hidden=12288, vocab=50257, count=96, heads=96, positions=2048)
