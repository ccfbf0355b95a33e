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

A library that states protocols (`hardware.kernel_set`) has these forms instead, each with the start,
hop time and bandwidth share of the protocol:

    ring, low latency           f S/B + h a     f = 2 (p-1)/p, h = 2 (p-1) for an all-reduce, else
                                (p-1)/p and p-1; low latency carries flags inside the words
    one-shot all-reduce         (p-1) S/B + a
    in-network                  (p+1)/p S/B for an all-reduce, (p-1)/p S/B for an all-gather or
                                reduce-scatter: the device's own part goes through the switch, too

The cheapest form that the topology allows is taken. On a switch every device reaches every other
in one hop of the same latency; the latency of a ring step is one hop as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.kernel_set import CollectiveProtocol, Protocol
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
    function: str, link: Columns[Link], *, size_bytes: Floats, degree: float,
    protocols: Sequence[CollectiveProtocol] = (),
) -> CollectiveCost:  # fmt: skip
    """Return the cost of a collective among `degree` devices of one link.

    Args:
        function: all_reduce, all_gather, reduce_scatter, all_to_all or send.
        link: The link.
        size_bytes: S, shape (N,) or (R, N): for an all-gather the gathered tensor, else the tensor
            on each device.
        degree: Participants, p.
        protocols: What the library offers; none for what the topology allows. One that a function
            or link does not allow is left out.
    """
    usable = [entry for entry in protocols if _may(entry.protocol, function, link)]
    if usable and degree > 1:
        return _by_protocol(function, link, usable, size_bytes=size_bytes, degree=degree)
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


def _may(protocol: Protocol, function: str, link: Columns[Link]) -> bool:
    if protocol is Protocol.ONE_SHOT:
        return function == "all_reduce"
    if protocol is Protocol.IN_NETWORK:
        return link.in_network_reduction and function not in ("all_to_all", "send")
    return True


def _by_protocol(
    function: str, link: Columns[Link], protocols: Sequence[CollectiveProtocol], *,
    size_bytes: Floats, degree: float,
) -> CollectiveCost:  # fmt: skip
    """Return the least time over protocols; the first of equals wins."""
    times, sent = [], []
    for entry in protocols:
        share, hops = _share_and_hops(entry.protocol, function, degree)
        efficiency = link.efficiency if entry.efficiency is None else entry.efficiency
        hop = link.latency_s if entry.hop_s is None else entry.hop_s
        start = link.message_overhead_s if entry.start_s is None else entry.start_s
        times.append(start + hops * hop + share * size_bytes / (link.bytes_per_s * efficiency))
        sent.append(share * size_bytes)
    taken = np.argmin(np.stack(times), axis=0)[None]
    return CollectiveCost(
        seconds=np.where(size_bytes > 0, np.take_along_axis(np.stack(times), taken, 0)[0], 0.0),
        sent_bytes=np.take_along_axis(np.stack(sent), taken, 0)[0],
    )


def _share_and_hops(protocol: Protocol, function: str, degree: float) -> tuple[float, float]:
    """Return the bytes that a device sends / the bytes of the message, and the hops in a row."""
    sums = function == "all_reduce"
    if function == "send":
        return 1.0, 1.0
    if protocol is Protocol.ONE_SHOT:
        return degree - 1.0, 1.0
    if protocol is Protocol.IN_NETWORK:
        return (degree + 1.0) / degree if sums else (degree - 1.0) / degree, 0.0
    times = 2.0 if sums else 1.0
    return times * (degree - 1.0) / degree, times * (degree - 1.0)


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
) -> tuple[tuple[Columns[Link], npt.NDArray[np.bool_]], ...]:
    """Return each link that is the innermost one to join `degree` devices, and for which designs.

    Links are listed from the innermost; each joins `degree` groups of the one before it. The masks
    have the shape (N,); a design that no mask holds has no link that reaches so far.
    """
    return machine.derived.once(("links", degree), lambda: tuple(_links_for(machine, degree)))


def _links_for(
    machine: MachineTable, degree: float
) -> Iterator[tuple[Columns[Link], npt.NDArray[np.bool_]]]:
    reach = np.ones(machine.length)
    before = np.zeros(machine.length, dtype=np.bool_)
    for link in machine.links:
        reach = reach * link.degree
        joins = reach >= degree
        if (joins & ~before).any():
            yield link, joins & ~before
        before = joins
