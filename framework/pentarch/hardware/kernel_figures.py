"""Fitted figures of kernel sets: how a calibration names them, and how they get into a stack.

A kernel set is known by what it is for, since of two sets for the same only the first is ever used:
`kernels.gemm/fp8/fp8/Hopper.efficiency` is the efficiency of the GEMM kernels for fp8 by fp8 on
Hopper, `*` stands for all, and `kernels.collective/*/*/*.protocols.ring.hop_s` is a figure of one
protocol. Families, formats and functions of a set are joined by `+`; bounds of the shapes that it is
for come last, each as `group>=2` or `head_dim<=128`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pentarch.hardware.kernel_set import KernelSet
from pentarch.hardware.machine import provenance
from pentarch.hardware.priors import expected_log_ratio

if TYPE_CHECKING:
    from pentarch.hardware.calibration import Calibration, Fitted

KERNELS = "kernels"
"""Field of a runtime that holds its kernel sets."""
ALL = "*"
"""Stands for every format or family."""
BOUNDS = (
    ("least_group", "group>="), ("most_group", "group<="), ("least_head_dim", "head_dim>="),
    ("most_head_dim", "head_dim<="),
)  # fmt: skip
"""Fields that say for which shapes a set is, and how a key states them."""


def kernel_key(values: Mapping[str, Any], *, families: bool = True) -> str:
    """Return what a kernel set is known by.

    Args:
        values: Its fields, as parsed or as of the model.
        families: Whether the device families are part of it.

    Examples:
        >>> kernel_key({"operator": "gemm", "b_formats": ["fp8"], "architectures": ["Hopper"]})
        'gemm/*/fp8/Hopper'
        >>> kernel_key({"operator": "attention_decode", "most_group": 1})
        'attention_decode/*/*/*/group<=1'
    """
    names = ("a_formats", "b_formats", *(("architectures",) if families else ()))
    parts = [str(values["operator"]), *(_joined(values.get(name)) for name in names)]
    if values.get("functions"):
        parts.append(_joined(values["functions"]))
    for name, relation in BOUNDS:
        bound = values.get(name)
        if bound is not None and (name.startswith("most") or bound > 1):
            parts.append(f"{relation}{bound}")
    return "/".join(parts)


def split_parameter(parameter: str) -> tuple[str, str] | None:
    """Return key and field of a parameter of a kernel set, or `None` if it is none of one.

    Examples:
        >>> split_parameter("kernels.gemm/fp8/fp8/Xe2.split"), split_parameter("launch_s")
        (('gemm/fp8/fp8/Xe2', 'split'), None)
    """
    head, _, rest = parameter.partition(".")
    key, _, field = rest.partition(".")
    return (key, field) if head == KERNELS and field else None


def families_of(parameter: str) -> frozenset[str] | None:
    """Return the device families that a parameter of a kernel set is for, `None` for all.

    Examples:
        >>> families_of("kernels.gemm/fp8/fp8/Hopper.split"), families_of("launch_s")
        (frozenset({'Hopper'}), None)
    """
    split = split_parameter(parameter)
    families = ALL if split is None else _without_family(split[0])[0]
    return None if families == ALL else frozenset(families.split("+"))


def expected_kernels(entries: Sequence["Calibration"]) -> Mapping[str, "Fitted"]:
    """Return what kernel sets of a stack lead one to expect of its sets on other families.

    The key of an expected figure has no family. It is the prior, moved by what was found on the
    families that were measured.
    """
    from pentarch.hardware.calibration import Fitted

    found: dict[str, dict[str, list[float]]] = {}
    facts: dict[str, float] = {}
    for entry in entries:
        for name, parameter in entry.parameters.items():
            split = split_parameter(name)
            if split is None or not parameter.identified or parameter.facts is None:
                continue
            family, general = _without_family(split[0])
            general = f"{KERNELS}.{general}.{split[1]}"
            facts[general] = parameter.facts
            ratio = math.log(parameter.value / parameter.facts)
            found.setdefault(general, {}).setdefault(family, []).append(ratio)
    return {
        name: Fitted(
            value=facts[name] * math.exp(expected_log_ratio(ratios, None)),
            provenance=provenance(
                f"prior, moved by the kernels of {', '.join(sorted(ratios))}", "der"
            ),
        )
        for name, ratios in found.items()
    }


def with_kernel_figures(
    sets: Iterable[Mapping[str, Any]], figures: Mapping[str, "Fitted"]
) -> list[dict[str, Any]]:
    """Return the fields of kernel sets with fitted figures in place of what their file says.

    Figures of a set's own come before those that are expected of a family that was not measured. A
    time that a set does not state is not expected of it: its kernels have no such part.
    """
    changed = []
    for values in sets:
        fields = dict(values)
        expected, own = kernel_key(values, families=False), kernel_key(values)
        for key in (expected, own):
            head = f"{KERNELS}.{key}."
            for name, fitted in figures.items():
                field = name.removeprefix(head)
                if name.startswith(head) and (key == own or _has_part(values, field)):
                    fields = with_kernel_value(fields, field, fitted.value)
        changed.append(fields)
    return changed


def with_kernel_value(fields: Mapping[str, Any], name: str, value: float) -> dict[str, Any]:
    """Return the fields of a kernel set with one figure changed.

    Args:
        fields: The set, as parsed or as of the model.
        name: Field of the set, or `protocols.ring.hop_s`; a protocol that the set lacks stays away.
        value: The figure.
    """
    head, _, rest = name.partition(".")
    if not rest:
        return {**fields, head: value}
    protocol, _, field = rest.partition(".")
    entries = [
        {**entry, field: value} if str(entry["protocol"]) == protocol else dict(entry)
        for entry in fields.get(head) or ()
    ]
    return {**fields, head: entries}


def _has_part(values: Mapping[str, Any], field: str) -> bool:
    """Return whether a set has what a figure is of: a factor always, anything else where stated.

    A field that no set has is let through, for the model to refuse it by name.
    """
    name = field.partition(".")[0]
    known = KernelSet.model_fields.get(name)
    return known is None or known.default == 1.0 or bool(values.get(name))


def _without_family(key: str) -> tuple[str, str]:
    """Return the families of a key, and the key without them."""
    operator, a_formats, b_formats, families, *functions = key.split("/")
    return families, "/".join((operator, a_formats, b_formats, *functions))


def _joined(names: Iterable[str] | None) -> str:
    return "+".join(sorted(names)) if names else ALL
