"""Time and traffic of collectives on a link, by the usual cost formulas.

S bytes, p participants, latency a per hop, bandwidth B per direction and device:

    ring all-reduce             2 (p-1)/p S/B + 2 (p-1) a      Thakur et al. 2005, sec. 4.5
    two-shot all-reduce         2 (p-1)/p S/B + 2 a            on a switch: reduce-scatter, then all-gather,
                                each device sending to all others at once
    one-shot all-reduce         (p-1) S/B + a                  on a switch: each device sends all it has to
                                all others and adds what it gets
    in-network all-reduce       S/B + 2 a                      each device sends and receives S once
    all-gather, reduce-scatter  (p-1)/p S/B + (p-1) a on a ring, Thakur et al. 2005, sec. 4.1, 4.2;
                                + a on a switch
    pairwise all-to-all         (p-1)/p S/B + a on a switch; floor(p^2/4)/p S/B + (p-1) a elsewhere,
                                as devices pass on what goes past them: on a ring, each block of
                                S/p makes min(i, p-i) hops
    send                        S/B + a

The cheapest form that the topology allows is taken. On a switch every device reaches every other
in one hop of the same latency; the latency of a ring step is one hop as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Link, Topology


@dataclass(frozen=True, slots=True, eq=False)
class CollectiveCost:
    """Cost of one collective; arrays broadcast to (R, N)."""

    seconds: Floats
    """Time from the first device's start to the last one's end."""
    sent_bytes: Floats
    """Bytes that one device sends, those that it passes on included."""


def collective_cost(
    function: str, link: Columns[Link], *, size_bytes: Floats, degree: float
) -> CollectiveCost:
    """Return the cost of a collective among `degree` devices of one link.

    Args:
        function: all_reduce, all_gather, reduce_scatter, all_to_all or send.
        link: The link.
        size_bytes: S, shape (N,) or (R, N): for an all-gather the gathered tensor, else the tensor
            on each device.
        degree: Participants, p.
    """
    if degree <= 1 and function != "send":
        return CollectiveCost(
            seconds=np.zeros_like(size_bytes), sent_bytes=np.zeros_like(size_bytes)
        )
    bandwidth = link.bytes_per_s * link.efficiency
    transfer, hop = size_bytes / bandwidth, link.latency_s
    share = (degree - 1) / degree
    if function == "send":
        seconds, sent = transfer + hop, size_bytes
    elif function == "all_reduce":
        seconds, sent = _all_reduce(link, transfer=transfer, size_bytes=size_bytes, degree=degree)
    elif function in ("all_gather", "reduce_scatter"):
        steps = 1.0 if link.topology is Topology.SWITCH else degree - 1
        seconds, sent = share * transfer + steps * hop, share * size_bytes
    elif link.topology is Topology.SWITCH:
        seconds, sent = share * transfer + hop, share * size_bytes
    else:
        hops = np.floor(degree**2 / 4) / degree
        seconds, sent = hops * transfer + (degree - 1) * hop, hops * size_bytes
    return CollectiveCost(
        seconds=np.where(size_bytes > 0, seconds + link.message_overhead_s, 0.0), sent_bytes=sent
    )


def _all_reduce(
    link: Columns[Link], *, transfer: Floats, size_bytes: Floats, degree: float
) -> tuple[Floats, Floats]:
    hop, share = link.latency_s, (degree - 1) / degree
    if link.topology is Topology.SWITCH:
        one_shot = (degree - 1) * transfer + hop
        two_shot = 2 * share * transfer + 2 * hop
        seconds = np.minimum(one_shot, two_shot)
        sent = np.where(one_shot < two_shot, (degree - 1) * size_bytes, 2 * share * size_bytes)
    else:
        seconds = 2 * share * transfer + 2 * (degree - 1) * hop
        sent = 2 * share * size_bytes
    if link.in_network_reduction:
        switched = transfer + 2 * hop
        sent = np.where(switched < seconds, size_bytes, sent)
        seconds = np.minimum(switched, seconds)
    return seconds, sent


def links_for(
    machine: MachineTable, degree: float
) -> Iterator[tuple[Columns[Link], npt.NDArray[np.bool_]]]:
    """Yield each link that is the innermost one to join `degree` devices, and for which designs.

    Links are listed from the innermost; each joins `degree` groups of the one before it. The masks
    have the shape (N,); a design that no mask holds has no link that reaches so far.
    """
    reach = np.ones(machine.length)
    before = np.zeros(machine.length, dtype=np.bool_)
    for link in machine.links:
        reach = reach * link.degree
        joins = reach >= degree
        if (joins & ~before).any():
            yield link, joins & ~before
        before = joins
