"""FLOPs of one forward pass against torch's own counter on the models of transformers, exactly.

The counter sees matrix products and convolutions; norms, softmax and rotary embeddings are none.
Models are on the meta device, so nothing is computed. Four things need care:

- A mask of four dimensions: one of two makes transformers look at values, which meta tensors lack.
  ALiBi (BLOOM, MPT, and Falcon with `alibi`) is built from a mask of two, and never looks at it.
- Eager attention: all families have it, and its products are counted.
- Experts run as `batched_mm`: the default kernel of transformers is not counted at all.
- Llama 4 has experts of its own kind, which multiply every token with all of them; of their count
  only the routed share is work.
"""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.validation.transformers_models import (
    FAMILIES,
    Family,
    Variant,
    build,
    load,
    variants,
    write_sparse,
)

from pentarch.catalog import default_library
from pentarch.errors import PentarchError
from pentarch.graph.flops import dense_flops

pytestmark = [
    pytest.mark.usefixtures("transformers_installed"),
    pytest.mark.filterwarnings("ignore:::(torch|transformers|huggingface_hub)"),
]

TOKENS = 48
ENCODER_TOKENS = 80
COMPARED = 3
"""Configurations of each family: the default one and altered ones."""
ENCODER_DECODERS = ("t5", "mt5", "umt5", "bart", "mbart")
"""Types that read token ids on both sides."""
RUNS_ALL_EXPERTS = "llama4"
"""Start of the types whose experts each multiply every token."""
FORWARD_NEEDS = {"deepseek_v2": {"num_experts_per_tok": 6}}
"""Keys without which the default configuration of a type has parameters, but cannot run."""


def inputs_of(config: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the arguments of a forward pass, and the lengths that pentarch is asked for."""
    import torch

    def zeros(*shape: int, whole: bool = True) -> Any:
        return torch.zeros(*shape, dtype=torch.long if whole else torch.float32, device="meta")

    kind = config.model_type
    if kind == "vit":
        size = config.image_size
        pixels = zeros(1, config.num_channels, size, size, whole=False)
        return {"pixel_values": pixels}, {"tokens": 1}  # the image says how many
    ids = zeros(1, TOKENS)
    if kind == "whisper":
        frames = zeros(1, config.num_mel_bins, 2 * config.max_source_positions, whole=False)
        lengths = {"tokens": 1, "decoder_tokens": TOKENS}  # the recording says how many
        return {"input_features": frames, "decoder_input_ids": ids}, lengths
    if kind in ENCODER_DECODERS:
        lengths = {"tokens": ENCODER_TOKENS, "decoder_tokens": TOKENS}
        return {"input_ids": zeros(1, ENCODER_TOKENS), "decoder_input_ids": ids}, lengths
    arguments = {"input_ids": ids, "attention_mask": zeros(1, 1, TOKENS, TOKENS, whole=False)}
    if kind in ("bloom", "mpt") or getattr(config, "alibi", False):
        return arguments | {"attention_mask": zeros(1, TOKENS)}, {"tokens": TOKENS}
    return arguments | {"position_ids": ids}, {"tokens": TOKENS}


def counted(model: Any, arguments: dict[str, Any]) -> int:
    """Return the FLOPs that torch counts in a forward pass, experts at their routed share."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    if hasattr(model.config, "num_experts_per_tok"):
        model.set_experts_implementation("batched_mm")
    with FlopCounterMode(display=False, depth=None) as counter, torch.no_grad():
        model(**arguments)
    total = counter.get_total_flops()
    if model.config.model_type.startswith(RUNS_ALL_EXPERTS):
        experts, chosen = model.config.num_local_experts, model.config.num_experts_per_tok
        everything = sum(
            sum(products.values())
            for module, products in counter.get_flop_counts().items()
            if module.endswith(".feed_forward.experts")
        )
        total -= everything * (experts - chosen) // experts
    return total


def difference(variant: Variant, folder: Path) -> str | None:
    """Return how pentarch's FLOPs differ from torch's, `None` if they do not."""
    path = write_sparse(variant, folder)
    model = build(load(path), attn_implementation="eager")
    arguments, lengths = inputs_of(model.config)
    expected = counted(model, arguments)
    try:
        workload = default_library().workload(path)
        found = dense_flops(workload, **lengths)
    except PentarchError as error:
        return f"{variant.name}: {error}"
    if found == expected:
        return None
    return (
        f"{variant.name}: {found} - {expected} = {found - expected} ({found / expected - 1:+.2%})"
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_flops_are_those_that_torch_counts(family: Family, tmp_path: Path) -> None:
    differing = []
    for number, variant in enumerate(islice(variants(family), COMPARED)):
        if not variant.settings:
            variant = replace(variant, settings=FORWARD_NEEDS.get(variant.model_type, {}))
        found = difference(variant, tmp_path / str(number))
        differing += [] if found is None else [found]

    assert not differing, "\n".join(differing)
