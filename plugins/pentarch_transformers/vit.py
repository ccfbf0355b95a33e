"""ViT and DeiT: encoders of images with a classifier."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import GroupedQueryAttention
from pentarch.workload.layers import DenseFeedForward, Layer
from pentarch.workload.workload import (
    Convolution,
    FrontEnd,
    HeadKind,
    HeadTransform,
    PositionEmbedding,
)
from pentarch_transformers.assembly import LAYER_NORM, Build, TypedFamily, same
from pentarch_transformers.heads import Pooler, labels
from pentarch_transformers.reading import Reader


def _vit(read: Reader) -> dict[str, Any]:
    return _image_encoder(read, learned_tokens=1)


def _deit(read: Reader) -> dict[str, Any]:
    return _image_encoder(read, learned_tokens=2)  # a class and a distillation token


def _image_encoder(read: Reader, *, learned_tokens: int) -> dict[str, Any]:
    hidden, heads = read.count("hidden_size", 768), read.count("num_attention_heads", 12)
    if hidden < heads:
        raise read.wrong(
            "num_attention_heads", f"found {heads}", f"at most {hidden}, the hidden size"
        )
    rows, columns = _grid(read)
    height, width = _sides(read, "patch_size", 16)
    frontend = FrontEnd(
        convolutions=(
            Convolution(
                inputs=read.count("num_channels", 3), taps=height * width, outputs=hidden,
                positions=rows * columns,
            ),
        ),
        learned_tokens=learned_tokens,
    )  # fmt: skip
    layer = Layer(
        attention=GroupedQueryAttention(
            heads=heads, kv_heads=heads, head_dim=hidden // heads, causal=False,
            qkv_bias=read.flag("qkv_bias", True), output_bias=True,
        ),
        feed_forward=DenseFeedForward(
            width=read.count("intermediate_size", 3072), bias=True,
            activation=read.activation("hidden_act", "gelu"),
        ),
        attention_norm=LAYER_NORM, feed_forward_norm=LAYER_NORM,
    )  # fmt: skip
    return {
        "hidden": hidden, "vocab": labels(read),
        "positions": frontend.tokens, "position_embedding": PositionEmbedding.LEARNED,
        "frontend": frontend, "lm_head_bias": True, "head": HeadKind.CLASSES,
        "layers": same(read.layers("num_hidden_layers", 12), layer, "encoder").groups,
        "final_norm": LAYER_NORM,
    }  # fmt: skip


def _grid(read: Reader) -> tuple[int, int]:
    """Return rows and columns of patches."""
    image, patch = _sides(read, "image_size", 224), _sides(read, "patch_size", 16)
    rows, columns = image[0] // patch[0], image[1] // patch[1]
    if not rows or not columns:
        raise read.wrong(
            "patch_size", f"patches of {patch[0]} x {patch[1]} are larger than the image",
            f"at most image_size = {image[0]} x {image[1]}",
        )  # fmt: skip
    return rows, columns


def _sides(read: Reader, key: str, default: int) -> tuple[int, int]:
    """Return height and width of a square, or of a rectangle given as a list."""
    found = read.pair(key)
    if found is not None:
        return found
    side = read.count(key, default)
    return side, side


def _pooled(read: Reader, fields: Mapping[str, Any]) -> HeadTransform:
    width = read.maybe("pooler_output_size") or fields["hidden"]
    return HeadTransform(width=width, activation=read.activation("pooler_act", "tanh"))


class VitFamily(TypedFamily):
    """Vision transformers."""

    name: ClassVar[str] = "vit"
    poolers: ClassVar[Mapping[str, Pooler]] = {"vit": Pooler(_pooled), "deit": Pooler(_pooled)}
    about: ClassVar[str] = "ViT and DeiT: encoders of images with a classifier"
    builders: ClassVar[Mapping[str, Build]] = {"vit": _vit, "deit": _deit}
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
