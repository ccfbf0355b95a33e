"""What decoders of many families share: dimensions, heads, patterns of layers, the workload."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ValidationError

from pentarch.contracts.workload_family import WorkloadFamily
from pentarch.errors import FieldError
from pentarch.model import field_error
from pentarch.workload.attention import GroupedQueryAttention, Norm, NormKind
from pentarch.workload.layers import Activation, DenseFeedForward, Layer, LayerGroup
from pentarch.workload.workload import Workload
from pentarch_transformers.heads import Pooler, with_architecture
from pentarch_transformers.reading import Reader

RMS = Norm(kind=NormKind.RMS)
"""Root-mean-square norm with a gain per feature."""
LAYER_NORM = Norm(kind=NormKind.LAYER, bias=True)
"""Layer norm with a gain and a bias per feature."""

Build = Callable[[Reader], Mapping[str, Any]]
"""Reads one model type; returns the fields of its workload but name and family."""


class TypedFamily(WorkloadFamily):
    """A family whose members differ by `model_type`: one function reads each."""

    builders: ClassVar[Mapping[str, Build]]
    """Function of each model type; the first one reads a configuration that names no type."""
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Further names of keys by model type."""
    poolers: ClassVar[Mapping[str, Pooler]] = {}
    """What stands behind the layers of a model without its head, by model type."""

    def import_workload(self, config: Mapping[str, Any], *, name: str, where: str) -> Workload:
        """Return the workload that a configuration describes.

        Args:
            config: The parsed configuration, unchecked. Without a `model_type` it is of the first
                type of the family.
            name: Name for the workload.
            where: File that the configuration comes from, for errors.

        Raises:
            FieldError: A field is missing or wrong.
        """
        kind = config.get("model_type", next(iter(self.builders)))
        if not isinstance(kind, str) or kind not in self.builders:
            raise FieldError(
                where=where,
                path="model_type",
                problem=f"found {kind!r}",
                expected=f"one of the family's: {', '.join(self.builders)}",
            )
        read = Reader(config, where, other_names=self.other_names.get(kind))
        try:
            fields = with_architecture(read, self.builders[kind](read), self.poolers.get(kind))
            return Workload(name=name, family=self.name, **fields)
        except ValidationError as error:  # what no check of a single key has found
            raise field_error(error, where=where) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a configuration class takes for the dimensions that a file does not state."""

    vocab: int
    hidden: int
    width: int
    layers: int
    heads: int
    positions: int
    kv_heads: int | None = None
    """`None` means one for each query head."""
    head_dim: int | None = None
    """`None` means the hidden size shared among the heads."""
    activation: str = "silu"
    tied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """The dimensions of one decoder."""

    vocab: int
    hidden: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    positions: int
    activation: Activation
    tied: bool

    def attention(self, **changes: Any) -> GroupedQueryAttention:
        """Return attention of these heads, with rotary positions over all features."""
        fields: dict[str, Any] = {
            "heads": self.heads, "kv_heads": self.kv_heads, "head_dim": self.head_dim,
            "rotary_dim": self.head_dim,
        }  # fmt: skip
        return GroupedQueryAttention(**fields | changes)

    def gated(self, *, width: int | None = None, bias: bool = False) -> DenseFeedForward:
        """Return a gated feed-forward block, of another width if one is given."""
        return DenseFeedForward(
            width=width or self.width, activation=self.activation, gated=True, bias=bias
        )

    def plain(self, *, bias: bool = True) -> DenseFeedForward:
        """Return a feed-forward block of two linear layers."""
        return DenseFeedForward(width=self.width, activation=self.activation, bias=bias)

    def fields(self, layers: "Layers", *, final_norm: Norm | None, **more: Any) -> dict[str, Any]:
        """Return the fields of a decoder."""
        return {
            "hidden": self.hidden, "vocab": self.vocab, "positions": self.positions,
            "tied": self.tied, "layers": layers.groups, "order": layers.order,
            "final_norm": final_norm, **more,
        }  # fmt: skip


def dimensions(
    read: Reader, default: Defaults, *, divisible: bool = False, activation_key: str = "hidden_act"
) -> Dimensions:
    """Return the dimensions that most decoders state under the same keys.

    Args:
        read: The configuration.
        default: What its class takes for missing ones.
        divisible: Whether the hidden size must be a multiple of the heads although a file states
            their width: some configuration classes insist on it. Without a stated width it must
            be, unless that leaves the model well defined (the quotient is rounded down).
        activation_key: Key of the activation.
    """
    hidden = read.count("hidden_size", default.hidden)
    heads = read.count("num_attention_heads", default.heads)
    head_dim = read.maybe("head_dim", default.head_dim)
    if head_dim is None or divisible:
        shared = _head_dim(read, hidden, heads, strict=divisible)
        head_dim = shared if head_dim is None else head_dim
    return Dimensions(
        vocab=read.count("vocab_size", default.vocab),
        hidden=hidden,
        width=read.count("intermediate_size", default.width),
        layers=read.layers("num_hidden_layers", default.layers),
        heads=heads,
        kv_heads=kv_heads(read, heads, default.kv_heads),
        head_dim=head_dim,
        positions=read.count("max_position_embeddings", default.positions),
        activation=read.activation(activation_key, default.activation),
        tied=read.flag("tie_word_embeddings", default.tied),
    )


def _head_dim(read: Reader, hidden: int, heads: int, *, strict: bool) -> int:
    if (hidden % heads and strict) or hidden < heads:
        raise read.wrong(
            "num_attention_heads",
            f"{heads} heads do not divide the hidden size {hidden}",
            "a divisor of the hidden size, or the width of a head stated as head_dim",
        )
    return hidden // heads


def kv_heads(
    read: Reader, heads: int, default: int | None, *, key: str = "num_key_value_heads"
) -> int:
    """Return the key-value heads, which divide the query heads."""
    found = read.maybe(key, default)
    if found is None:
        return heads
    if heads % found:
        stated = "" if read.has(key) else " (what the model type takes without it)"
        raise read.wrong(
            key,
            f"{found} key-value heads{stated} do not divide {heads} attention heads",
            f"a divisor of num_attention_heads = {heads}",
        )
    return found


def rotated(read: Reader, head_dim: int, default: float = 1.0) -> int:
    """Return the features of a head that carry a rotary position embedding, an even number."""
    inner = read.part("rope_parameters")
    if inner.has("partial_rotary_factor"):
        share = inner.share("partial_rotary_factor", default)
    else:
        share = read.share("partial_rotary_factor", default)
    return int(head_dim * share) // 2 * 2


@dataclass(frozen=True, slots=True)
class Layers:
    """Groups of equal layers, and the order in which they take turns."""

    groups: tuple[LayerGroup, ...]
    order: tuple[str, ...] = ()


def same(count: int, layer: Layer, name: str = "decoder") -> Layers:
    """Return layers that are all alike."""
    return Layers((LayerGroup(name=name, count=count, layer=layer),))


def patterned(
    kinds: Sequence[Hashable], make: Callable[[Any], Layer], name: Callable[[Any], str]
) -> Layers:
    """Return layers of several kinds.

    Args:
        kinds: Kind of each layer, from the first to the last.
        make: Gives the layer of a kind.
        name: Gives the name of its group.
    """
    order = [name(kind) for kind in kinds]
    by_name = dict(zip(order, kinds, strict=True))
    if len(by_name) == 1:
        return same(len(kinds), make(kinds[0]))
    groups = tuple(
        LayerGroup(name=group, count=order.count(group), layer=make(kind))
        for group, kind in by_name.items()
    )
    in_sequence = [group.name for group in groups for _ in range(group.count)]
    return Layers(groups, () if in_sequence == order else tuple(order))


def windows(read: Reader, count: int, default: Sequence[str]) -> list[str]:
    """Return which layers have a window: `full_attention` or `sliding_attention` for each.

    Args:
        read: The configuration; its `layer_types` win.
        count: Layers.
        default: What its class takes without them.
    """
    known = ("full_attention", "sliding_attention")
    found = read.texts("layer_types", length=count, known=known)
    return list(default) if found is None else found


def every(count: int, interval: int, last: str, others: str) -> list[str]:
    """Return a pattern in which every `interval`-th layer is `last` and the rest `others`."""
    return [last if (index + 1) % interval == 0 else others for index in range(count)]
