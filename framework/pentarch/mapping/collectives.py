"""Time and traffic of collectives on a link, by the usual cost formulas.

S bytes, p participants, latency a per hop, bandwidth B per direction and device:

    ring all-reduce             2 (p-1)/p S/B + 2 (p-1) a      Thakur et al. 2005, sec. 4.5
    recursive doubling          log2(p) (S/B + a)              Thakur et al. 2005, sec. 4.5
    in-network all-reduce       S/B + 2 a                      each device sends and receives S once
    ring all-gather, reduce-scatter   (p-1)/p S/B + (p-1) a    Thakur et al. 2005, sec. 4.1, 4.2
    pairwise all-to-all         (p-1)/p S/B + (p-1) a on a ring, + a on a switch
    send                        S/B + a

The cheapest form that the topology allows is taken. On a switch every device reaches every other
in one hop of the same latency; the latency of a ring step is one hop as well.
"""

from dataclasses import dataclass

import numpy as np

from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Link, Topology


@dataclass(frozen=True, slots=True, eq=False)
class CollectiveCost:
    """Cost of one collective; arrays broadcast to (R, N)."""

    seconds: Floats
    """Time from the first device's start to the last one's end."""
    sent_bytes: Floats
    """Bytes that one device sends."""


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
    else:
        steps = 1.0 if link.topology is Topology.SWITCH else degree - 1
        seconds, sent = share * transfer + steps * hop, share * size_bytes
    return CollectiveCost(
        seconds=np.where(size_bytes > 0, seconds + link.message_overhead_s, 0.0), sent_bytes=sent
    )


def _all_reduce(
    link: Columns[Link], *, transfer: Floats, size_bytes: Floats, degree: float
) -> tuple[Floats, Floats]:
    hop, share = link.latency_s, (degree - 1) / degree
    ring = 2 * share * transfer + 2 * (degree - 1) * hop
    seconds, sent = ring, 2 * share * size_bytes
    if link.topology is Topology.SWITCH:
        rounds = float(np.ceil(np.log2(degree)))
        doubling = rounds * (transfer + hop)
        sent = np.where(doubling < seconds, rounds * size_bytes, sent)
        seconds = np.minimum(doubling, seconds)
    if link.in_network_reduction:
        switched = transfer + 2 * hop
        sent = np.where(switched < seconds, size_bytes, sent)
        seconds = np.minimum(switched, seconds)
    return seconds, sent


def link_for(machine: MachineTable, degree: float) -> Columns[Link] | None:
    """Return the innermost link that joins `degree` devices, or `None`.

    Links are listed from the innermost; each joins `degree` groups of the one before it.
    """
    reach = 1.0
    for link in machine.links:
        reach *= float(link.degree[0])
        if reach >= degree:
            return link
    return None
