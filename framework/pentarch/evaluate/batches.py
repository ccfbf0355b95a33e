"""Calls back-ends on batches: all designs at once or, where a back-end says so, one by one.

`Backend.batch = False` means that the methods of a back-end take one design. Their answers are
joined here, so that everything else sees N designs whatever the back-end does.
"""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pentarch.contracts.backend import AnyBackend, Backend
from pentarch.errors import PentarchError, PluginError
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.device import Device
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.view import View
from pentarch.mapping.assemble import stacked_names
from pentarch.mapping.costs import (
    Fidelity,
    RowCosts,
    RowRequest,
    SegmentCosts,
    SegmentRequest,
)
from pentarch.mapping.engine import cost_rows

PARTS = ("overhead", "power", "area", "cost", "program", "budget", "extra")
LISTS = ("levels", "engines", "links")


def overrides(backend: AnyBackend, method: str) -> bool:
    """Return whether a back-end has a `cost_rows` or `cost_segment` of its own."""
    return getattr(type(backend), method) is not getattr(Backend, method)


def describe(
    backend: AnyBackend, device: Device, length: int, columns: Mapping[str, Floats] | None = None
) -> MachineTable:
    """Return N designs of a device as a checked machine.

    Args:
        backend: Back-end of the device.
        device: Template: fields that are not swept.
        length: Number of designs, N.
        columns: Swept fields, shape (N,) each.

    Raises:
        FieldError: A swept value is not allowed, or a number of the machine is impossible.
        PluginError: Designs that differ in numbers only were described with different parts, or the
            back-end failed.
    """
    if backend.batch or length == 1:
        machine = _machine(backend, View(device, length, columns))
    else:
        swept = columns or {}
        machine = join_machines(
            backend.name,
            [
                _machine(
                    backend,
                    View(device, 1, {key: values[at : at + 1] for key, values in swept.items()}),
                )
                for at in range(length)
            ],
        )
    machine.check()
    return machine


def ask_rows(backend: AnyBackend, request: RowRequest) -> RowCosts:
    """Return the cost of rows: the back-end's own where it gives one, else the engine's.

    Rows of a kind that is not among the back-end's `operators` cannot run.

    Raises:
        PluginError: The back-end failed, or its costs have the wrong shape.
    """
    costs = _ask_rows(backend, request)
    if request.kind in backend.operators:
        return costs
    note = f"back-end {backend.name!r} runs no {request.kind} operators"
    return replace(costs, fits=np.zeros_like(costs.fits), notes=(*costs.notes, note))


def _ask_rows(backend: AnyBackend, request: RowRequest) -> RowCosts:
    if not overrides(backend, "cost_rows"):
        return cost_rows(request)
    if backend.batch or request.machine.length == 1:
        costs = _rows(backend, request)
        if costs is None:
            return cost_rows(request)
    else:
        parts = [_one_design(request, index) for index in range(request.machine.length)]
        answers = [_rows(backend, part) for part in parts]
        if all(answer is None for answer in answers):
            return cost_rows(request)
        costs = _join_rows(
            [
                cost_rows(part) if one is None else _with_fidelity(backend, one)
                for part, one in zip(parts, answers, strict=True)
            ]
        )
    check_shape(backend, request, costs)
    return _with_fidelity(backend, costs)


def ask_segment(backend: AnyBackend, request: SegmentRequest) -> SegmentCosts | None:
    """Return the back-end's cost of all rows of a phase together, or `None`.

    Raises:
        PluginError: The back-end failed, its costs have the wrong shape, or it costs only some of the
            designs.
    """
    length = request.requests[0].machine.length
    if backend.batch or length == 1:
        found = _segment(backend, request)
    else:
        answers = [
            _segment(
                backend,
                replace(
                    request, requests=tuple(_one_design(rows, index) for rows in request.requests)
                ),
            )
            for index in range(length)
        ]
        found = _join_segments(backend, answers)
    if found is None:
        return None
    if len(found.rows) != len(request.requests):
        raise PluginError(
            f"`cost_segment` of back-end {backend.name!r} returned costs of {len(found.rows)} kinds of "
            f"rows for {len(request.requests)} requests. Return one `RowCosts` per request, in order."
        )
    for rows, costs in zip(request.requests, found.rows, strict=True):
        check_shape(backend, rows, costs)
    named = {"pass_s": found.pass_s, "interval_s": found.interval_s, **found.used}
    for figure, values in named.items():
        if np.shape(values) != (length,):
            raise PluginError(
                f"`cost_segment` of back-end {backend.name!r} returned {figure} of shape "
                f"{np.shape(values)}. Return one per design: ({length},)."
            )
    if len(found.bottleneck) != length:
        raise PluginError(
            f"`cost_segment` of back-end {backend.name!r} returned {len(found.bottleneck)} bottlenecks. "
            f"Return one per design: {length}."
        )
    return replace(found, rows=tuple(_with_fidelity(backend, costs) for costs in found.rows))


def _with_fidelity(backend: AnyBackend, costs: RowCosts) -> RowCosts:
    """Return a back-end's costs with its declared fidelity, where they state none of their own."""
    return costs if costs.fidelity is not None else replace(costs, fidelity=backend.fidelity)


def _machine(backend: AnyBackend, view: View[Any]) -> MachineTable:
    found = _call(backend, "machine", view)
    if not isinstance(found, MachineTable):
        raise _wrong_type(backend, "machine", found, "a `MachineTable`")
    return found


def _rows(backend: AnyBackend, request: RowRequest) -> RowCosts | None:
    found = _call(backend, "cost_rows", request)
    if found is not None and not isinstance(found, RowCosts):
        raise _wrong_type(backend, "cost_rows", found, "`RowCosts` or `None`")
    return found


def _segment(backend: AnyBackend, request: SegmentRequest) -> SegmentCosts | None:
    found = _call(backend, "cost_segment", request)
    if found is not None and not isinstance(found, SegmentCosts):
        raise _wrong_type(backend, "cost_segment", found, "`SegmentCosts` or `None`")
    return found


def _call(backend: AnyBackend, method: str, argument: object) -> object:
    """Return what a method of a back-end returns; what goes wrong in it is a plug-in's error."""
    try:
        found: object = getattr(backend, method)(argument)
    except PentarchError:
        raise
    except Exception as error:  # the plug-in boundary: the cause is kept
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise PluginError(
            f"`{method}` of back-end {backend.name!r} raised {type(error).__name__}: {error} "
            f"({at.filename}, line {at.lineno}). Mend the plug-in that provides the back-end."
        ) from error
    return found


def _wrong_type(backend: AnyBackend, method: str, found: object, expected: str) -> PluginError:
    return PluginError(
        f"`{method}` of back-end {backend.name!r} returned {type(found).__name__}. Return {expected}."
    )


def check_shape(backend: AnyBackend, request: RowRequest, costs: RowCosts) -> None:
    """Raise a `PluginError` when a cost of a back-end is not of shape (R, N)."""
    shape = (len(request.rows.names), request.machine.length)
    named: dict[str, Any] = {
        "fixed_s": costs.fixed_s, "executed_macs": costs.executed_macs, "fits": costs.fits,
    }  # fmt: skip
    for group in ("compute_s", "level_s", "read_bytes", "write_bytes", "energy_j"):
        named.update({f"{group}[{key}]": values for key, values in getattr(costs, group).items()})
    for figure, values in named.items():
        if values is not None and np.shape(values) != shape:
            raise PluginError(
                f"Back-end {backend.name!r} costs {request.kind} rows with {figure} of shape "
                f"{np.shape(values)}. Return (rows, designs): {shape}."
            )


def join_machines(backend: str, machines: Sequence[MachineTable]) -> MachineTable:
    """Return machines of one structure as one batch, in order.

    Args:
        backend: Name of their back-end, for the message.
        machines: At least one; what is no number is taken from the first.

    Raises:
        PluginError: They differ in more than numbers.
    """
    first = machines[0]
    for index, machine in enumerate(machines):
        if machine.structure != first.structure:
            raise PluginError(
                f"Back-end {backend!r} described designs 0 and {index} of {first.name} with different "
                "parts. Designs that differ in numbers only must have the same levels, engines, "
                "links and known figures."
            )
    length = len(machines)
    changes: dict[str, Any] = {
        name: tuple(
            _join_columns(parts)
            for parts in zip(*(getattr(m, name) for m in machines), strict=True)
        )
        for name in LISTS
    }
    for name in PARTS:
        if getattr(first, name) is not None:
            changes[name] = _join_columns([getattr(machine, name) for machine in machines])
    return replace(first, length=length, **changes)


def _join_columns(parts: Sequence[Columns[Any]]) -> Columns[Any]:
    first = parts[0]
    numbers = {
        name: np.concatenate([part.numbers[name] for part in parts]) for name in first.numbers
    }
    groups = {
        name: {key: np.concatenate([part.groups[name][key] for part in parts]) for key in group}
        for name, group in first.groups.items()
    }
    return replace(first, length=sum(part.length for part in parts), numbers=numbers, groups=groups)


def _one_design(request: RowRequest, index: int) -> RowRequest:
    """Return the request for one design of a batch."""
    at = np.array([index], dtype=np.intp)
    machine = request.machine
    changes: dict[str, Any] = {
        name: tuple(part.take(at) for part in getattr(machine, name)) for name in LISTS
    }
    for name in PARTS:
        part = getattr(machine, name)
        changes[name] = None if part is None else part.take(at)

    def own(values: Any) -> Any:
        return None if values is None else values[..., at]

    return replace(
        request, sequences=request.sequences[:, at], machine=replace(machine, length=1, **changes),
        reserved_bytes=own(request.reserved_bytes), resident_weights=own(request.resident_weights),
        resident_kv=own(request.resident_kv),
        resident_activations=own(request.resident_activations),
    )  # fmt: skip


def _join_rows(parts: Sequence[RowCosts]) -> RowCosts:
    """Join the costs of single designs; what one design lacks is zero there, unknown stays unknown."""
    nothing = np.zeros_like(parts[0].fixed_s)

    def join(group: str) -> dict[str, Any]:
        stores = [getattr(part, group) for part in parts]
        joined: dict[str, Any] = {}
        for name in stacked_names(*stores):
            values = [store.get(name, nothing) for store in stores]
            is_known = all(value is not None for value in values)
            joined[name] = np.concatenate(values, axis=1) if is_known else None
        return joined

    def side_by_side(name: str) -> Floats | None:
        values = [getattr(part, name) for part in parts]
        stated = [value for value in values if value is not None]
        if len(stated) < len(values):  # the structure says what is stated: all parts or none
            return None
        shape = (nothing.shape[0], 1)
        return np.concatenate([np.broadcast_to(value, shape) for value in stated], axis=1)

    return RowCosts(
        compute_s=join("compute_s"), level_s=join("level_s"), read_bytes=join("read_bytes"),
        write_bytes=join("write_bytes"), energy_j=join("energy_j"), detail=join("detail"),
        overlap=side_by_side("overlap"), host_s=side_by_side("host_s"),
        start_share=side_by_side("start_share"),
        fixed_s=np.concatenate([part.fixed_s for part in parts], axis=1),
        executed_macs=np.concatenate([part.executed_macs for part in parts], axis=1),
        fits=np.concatenate([part.fits for part in parts], axis=1), fidelity=_least_fidelity(parts),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )  # fmt: skip


def _least_fidelity(parts: Sequence[RowCosts]) -> Fidelity | None:
    """Return the weakest of several fidelities: a joined cost is no better than its worst part."""
    stated = [part.fidelity for part in parts if part.fidelity is not None]
    return min(stated, key=list(Fidelity).index, default=None)


def _join_segments(
    backend: AnyBackend, answers: Sequence[SegmentCosts | None]
) -> SegmentCosts | None:
    found = [answer for answer in answers if answer is not None]
    if not found:
        return None
    if len(found) < len(answers):
        raise PluginError(
            f"`cost_segment` of back-end {backend.name!r} costs {len(found)} of {len(answers)} designs of a "
            "batch. Cost all designs of one structure together, or none."
        )
    return SegmentCosts(
        rows=tuple(_join_rows(parts) for parts in zip(*(one.rows for one in found), strict=True)),
        pass_s=np.concatenate([one.pass_s for one in found]),
        interval_s=np.concatenate([one.interval_s for one in found]),
        bottleneck=tuple(name for one in found for name in one.bottleneck),
        used={
            name: np.concatenate([one.used.get(name, np.zeros(1)) for one in found])
            for name in stacked_names(*(one.used for one in found))
        },
    )
