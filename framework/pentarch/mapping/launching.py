"""Starts of operators: what the hardware takes between two, and what the host takes to issue one."""

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.costs import RowCosts
from pentarch.mapping.engine import row_times

SLOWER = 8.0
"""Exponent with which host and device join where the host issues ahead: (a^8 + b^8)^(1/8) is the
slower of the two, 9 % more where they are equal and wait for each other in turns."""


def started(
    costs: RowCosts, machine: MachineTable, runtime: Runtime,
    alone: npt.NDArray[np.bool_] | None = None,
) -> RowCosts:  # fmt: skip
    """Return the costs of rows with their starts.

    Hardware: barrier and operator start, the latter with the factor of the kernel. Host: the stack's
    or the kernel's own time, on top of everything, or beside it where the host issues ahead.

    Args:
        costs: R rows on N designs without starts.
        machine: The designs.
        runtime: The stack.
        alone: Which rows are launched on their own, (R,); `None` for all.
    """
    overhead = machine.overhead
    start: Floats | None = None
    if runtime.hardware_start:
        start = overhead.operator_start_s
        if costs.start_share is not None:
            start = start * costs.start_share
    host: Floats | float = runtime.launch_s if costs.host_s is None else costs.host_s
    counts = None if alone is None else alone.astype(np.float64)[:, None]
    if not runtime.issues_ahead:
        waits = overhead.barrier_s + host
        if start is not None:
            waits = waits + start
        return costs.with_fixed(costs.fixed_s + (waits if counts is None else counts * waits))
    device = overhead.barrier_s if start is None else overhead.barrier_s + start
    on_device = costs.with_fixed(costs.fixed_s + (device if counts is None else counts * device))
    busy = row_times(on_device, overlap=overhead.overlap).total_s
    issued = np.broadcast_to(host if counts is None else counts * host, busy.shape)
    longest = np.maximum(np.maximum(busy, issued), np.finfo(np.float64).tiny)
    joint = longest * ((busy / longest) ** SLOWER + (issued / longest) ** SLOWER) ** (1.0 / SLOWER)
    waits = np.where(issued > 0.0, np.maximum(joint - busy, 0.0), 0.0)
    return on_device.with_fixed(on_device.fixed_s + waits)
