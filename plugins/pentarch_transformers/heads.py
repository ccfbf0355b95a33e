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
_LABELS = 2
"""Classes that a configuration without a table of labels has."""


@dataclass(frozen=True, slots=True)
class Pooler:
    """What stands behind the layers in place of the head of a model's own type."""

    make: Callable[[Reader, Mapping[str, Any]], HeadTransform | None]
    """Gives the layer, from the configuration and the fields of the workload."""
    of_model: bool = True
    """Whether the model without any head has it too, not just a classifier."""


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
    if name is None or name.endswith(_OWN_HEADS):
        return dict(fields)
    if name.endswith("ForSequenceClassification") and "encoder" not in fields:
        transform = None if pooler is None else pooler.make(read, fields)
        return {
            **_without_head(fields), "head": HeadKind.CLASSES, "classes": labels(read),
            "head_transform": transform, "lm_head_bias": fields.get("head") is HeadKind.MASKED,
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
        "ForImageClassification, ForSequenceClassification or Model",
    )  # fmt: skip


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
