"""Which head a model has: that of its type, or the one that `architectures` names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pentarch.workload.workload import HeadKind, HeadTransform
from pentarch_transformers.reading import Reader

_OWN_HEADS = (
    "ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForConditionalGeneration",
    "ForImageClassification", "ForImageTextToText",
)  # fmt: skip
"""Ends of class names with the head that a type is described with."""
_PER_TOKEN = ("ForTokenClassification", "ForQuestionAnswering")
"""Ends of class names with a small linear layer over every position; of answers, start and end."""
_LABELS = 2
"""Classes that a configuration without a table of labels has."""


@dataclass(frozen=True, slots=True)
class Pooler:
    """What stands behind the layers in place of the head of a model's own type."""

    make: Callable[[Reader, Mapping[str, Any]], HeadTransform | None]
    """Gives the layer, from the configuration and the fields of the workload."""
    of_model: bool = True
    """Whether the model without any head has it too, not just a classifier."""
    of_positions: bool = False
    """Whether a head over every position has it too."""
    head_bias: bool = True
    """Whether a classifier behind it adds a bias."""


def with_architecture(
    read: Reader, fields: Mapping[str, Any], pooler: Pooler | None
) -> dict[str, Any]:
    """Return the fields of a workload with the head that `architectures` names.

    Args:
        read: The configuration.
        fields: Fields with the head that the model type has.
        pooler: What the type has in place of it.

    Raises:
        FieldError: The class has a head that is not described.
    """
    name = _class_name(read)
    if name is not None and name.endswith("ForCausalLM") and "encoder" in fields:
        return _decoder_alone(fields)
    if name is None or name.endswith(_OWN_HEADS):
        return dict(fields)
    if name.endswith(_PER_TOKEN) and "encoder" not in fields and "frontend" not in fields:
        return _over_positions(read, fields, pooler, name)
    if name.endswith("ForSequenceClassification") and "encoder" not in fields:
        transform = None if pooler is None else pooler.make(read, fields)
        return {
            **_without_head(fields), "head": HeadKind.CLASSES, "classes": labels(read),
            "head_transform": transform, "lm_head_bias": pooler is not None and pooler.head_bias,
        }  # fmt: skip
    if name.endswith("EncoderModel") and "encoder" in fields:
        return _encoder_alone(fields)
    if name.endswith("Model") and not name.endswith(("DoubleHeadsModel", "EncoderModel")):
        has_pooler = pooler is not None and pooler.of_model
        transform = pooler.make(read, fields) if pooler is not None and has_pooler else None
        return {**_without_head(fields), "head_transform": transform}
    raise read.wrong(
        "architectures[0]", f"found {name!r}, whose head is not described",
        "a class that ends in ForCausalLM, ForMaskedLM, ForConditionalGeneration, "
        "ForImageClassification, ForSequenceClassification, ForTokenClassification, "
        "ForQuestionAnswering or Model",
    )  # fmt: skip


def _over_positions(
    read: Reader, fields: Mapping[str, Any], pooler: Pooler | None, name: str
) -> dict[str, Any]:
    """Return the fields with a linear layer over every position, for classes or for answers."""
    has_transform = pooler is not None and pooler.of_positions
    transform = pooler.make(read, fields) if pooler is not None and has_transform else None
    # Of answers, most decoders score start and end; encoders and GPT-J have a row for each label.
    by_label = (pooler is not None and pooler.head_bias) or read.model_type == "gptj"
    return {
        **_without_head(fields), "head": HeadKind.MASKED, "head_transform": transform,
        "lm_head_bias": True,
        "classes": labels(read) if by_label or "Token" in name else _LABELS,
    }  # fmt: skip


def labels(read: Reader) -> int:
    """Return the number of classes that a configuration tells apart."""
    found = read.size("id2label")
    return read.count("num_labels", _LABELS) if found is None else found


def _class_name(read: Reader) -> str | None:
    found = read.items("architectures")
    if not found:
        return None
    if not isinstance(found[0], str):
        raise read.wrong("architectures[0]", f"found {str(found[0])[:80]}", "the name of a class")
    return found[0]


def _without_head(fields: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: value
        for key, value in fields.items()
        if key not in ("lm_head_bias", "head_transform", "classes")
    }
    # What a side without tables of its own would store beside them is no part of the head.
    unused = fields.get("unused_parameters", 0) if "encoder" in fields else 0
    return {**kept, "tied": False, "head": HeadKind.STATES, "unused_parameters": unused}


def _encoder_alone(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the encoder of an encoder-decoder as a workload of its own."""
    encoder = fields["encoder"]
    own = {name: getattr(encoder, name) for name in type(encoder).model_fields}
    own.pop("own_table")
    return {
        **own, "hidden": fields["hidden"], "vocab": fields["vocab"], "head": HeadKind.STATES,
        "notes": fields.get("notes", ()),
    }  # fmt: skip


def _decoder_alone(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decoder of an encoder-decoder as a workload of its own.

    It has the weights that would attend to an encoder all the same, and skips them.
    """
    hidden, skipped, groups = fields["hidden"], 0, []
    for group in fields["layers"]:
        cross = group.layer.cross
        norms = [norm for norm in (cross.norm, cross.sum_norm) if norm is not None]
        skipped += group.count * (
            cross.attention.weights(hidden) + cross.attention.other_parameters(hidden)
            + sum(norm.parameters(hidden) for norm in norms)
        )  # fmt: skip
        groups.append(group.replace(layer=group.layer.replace(cross=None)))
    kept = {key: value for key, value in fields.items() if key != "encoder"}
    return {
        **kept, "layers": tuple(groups), "unused_parameters": skipped,
        "notes": ("the decoder alone: its weights of cross attention are stored, never read",),
    }  # fmt: skip
