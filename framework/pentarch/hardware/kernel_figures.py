"""Fitted figures of kernel sets: how a calibration names them, and how they get into a stack.

A kernel set is known by what it is for, since of two sets for the same only the first is ever used:
`kernels.gemm/fp8/fp8/Hopper.efficiency` is the efficiency of the GEMM kernels for fp8 by fp8 on
Hopper, `*` stands for all, and `kernels.collective/*/*/*.protocols.ring.hop_s` is a figure of one
protocol. Families, formats and functions of a set are joined by `+`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pentarch.hardware.machine import provenance
from pentarch.hardware.priors import expected_log_ratio

if TYPE_CHECKING:
    from pentarch.hardware.calibration import Calibration, Fitted

KERNELS = "kernels"
"""Field of a runtime that holds its kernel sets."""
ALL = "*"
"""Stands for every format or family."""


def kernel_key(values: Mapping[str, Any], *, families: bool = True) -> str:
    """Return what a kernel set is known by.

    Args:
        values: Its fields, as parsed or as of the model.
        families: Whether the device families are part of it.

    Examples:
        >>> kernel_key({"operator": "gemm", "b_formats": ["fp8"], "architectures": ["Hopper"]})
        'gemm/*/fp8/Hopper'
    """
    names = ("a_formats", "b_formats", *(("architectures",) if families else ()))
    parts = [str(values["operator"]), *(_joined(values.get(name)) for name in names)]
    if values.get("functions"):
        parts.append(_joined(values["functions"]))
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

    Figures of a set's own come before those that are expected of a family that was not measured.
    """
    changed = []
    for values in sets:
        fields = dict(values)
        for key in (kernel_key(values, families=False), kernel_key(values)):
            head = f"{KERNELS}.{key}."
            for name, fitted in figures.items():
                if name.startswith(head):
                    fields = with_kernel_value(fields, name.removeprefix(head), fitted.value)
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


def _without_family(key: str) -> tuple[str, str]:
    """Return the families of a key, and the key without them."""
    operator, a_formats, b_formats, families, *functions = key.split("/")
    return families, "/".join((operator, a_formats, b_formats, *functions))


def _joined(names: Iterable[str] | None) -> str:
    return "+".join(sorted(names)) if names else ALL
