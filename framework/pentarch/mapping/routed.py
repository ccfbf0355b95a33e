"""What routing leaves to one device: distinct experts that a step visits, and their rows.

See definitions.md, MoE: traffic follows the expected distinct experts, time the fullest device.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pentarch.graph.table import GemmTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.kernel_set import UNKNOWN_USE, KernelUse
from pentarch.workload.routing import distinct_experts, fullest_load


def reroute(
    table: GemmTable, tokens: Floats, visited: Floats, work: Floats,
    *, picked: npt.NDArray[np.intp] | None = None,
) -> None:  # fmt: skip
    """Replace what uniform routing leaves to one device where routing or experts are otherwise.

    Rows of dense weights and of experts that are all on one device under uniform routing stay.

    Args:
        table: The table that the rows are part of.
        tokens: Tokens of a step of all sequences, (R, N) or (R,).
        visited: Experts on the device that a step visits, as `tokens`; changed in place.
        work: Token-expert pairs of the device, as `tokens`; changed in place.
        picked: Positions of the rows in the table; `None` means all.
    """
    if table.routing_skew is None and table.expert_devices is None:
        return
    positions = np.arange(len(table.names)) if picked is None else picked
    for row, position in enumerate(positions):
        skew = 0.0 if table.routing_skew is None else float(table.routing_skew[position])
        devices = 1 if table.expert_devices is None else int(table.expert_devices[position])
        if not table.experts[position] or (skew == 0.0 and devices == 1):
            continue
        total, own = int(table.experts_total[position]), float(table.experts[position])
        chosen = float(table.experts_per_token[position]) * total / own
        given = np.asarray(tokens[row])
        visited[row] = distinct_experts(total, chosen, given, devices=devices, skew=skew)
        work[row] = fullest_load(total, chosen, given, devices=devices, skew=skew)


def by_activation(
    table: GemmTable, picked: npt.NDArray[np.intp], chosen: npt.NDArray[np.intp]
) -> Iterator[tuple[KernelUse, npt.NDArray[np.intp]]]:
    """Yield rows by the function between the two products of experts, by which kernels are chosen.

    Args:
        table: The table that the rows are part of.
        picked: Positions in it of the rows at hand.
        chosen: Which of those are meant.
    """
    if not len(chosen):
        return
    if table.activations is None or not table.experts[picked[chosen]].any():
        yield UNKNOWN_USE, chosen
        return
    found: dict[str, list[int]] = {}
    for row in chosen.tolist():
        found.setdefault(table.activations[picked[row]], []).append(row)
    for function, rows in found.items():
        yield KernelUse(function=function or None), np.array(rows, dtype=np.intp)
