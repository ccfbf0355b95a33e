import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.mapping.machines import link, machine

from pentarch.hardware.kernel_set import CollectiveProtocol, Protocol
from pentarch.hardware.parts import Topology
from pentarch.mapping.collectives import collective_cost, links_for

SIZE, BANDWIDTH, HOP = 8e6, 1e9, 1e-6
TRANSFER = SIZE / BANDWIDTH


def cost(
    function: str, degree: float, *, size: float = SIZE, **changes: object
) -> tuple[float, float]:
    found = collective_cost(function, link(**changes), size_bytes=np.array([size]), degree=degree)  # type: ignore[arg-type]
    return found.seconds.item(), found.sent_bytes.item()


def test_ring_all_reduce_by_its_steps() -> None:
    # 2 (p - 1) steps, each moves S / p over one hop
    seconds, sent = cost("all_reduce", 4, topology=Topology.RING)
    steps = [SIZE / 4 / BANDWIDTH + HOP] * 6
    assert seconds == pytest.approx(sum(steps))
    assert sent == pytest.approx(6 * SIZE / 4)


def test_a_short_all_reduce_takes_one_shot_and_a_long_one_two() -> None:
    # 8 devices on a switch: 7 S/B + a, or 1.75 S/B + 2 a. Equal at 5.25 S/B = a, S = 1000 / 5.25 bytes.
    short, sent_short = cost("all_reduce", 8, size=190.0)
    assert short == pytest.approx(7 * 190e-9 + HOP)
    assert sent_short == 7 * 190
    long, sent_long = cost("all_reduce", 8, size=191.0)
    assert long == pytest.approx(1.75 * 191e-9 + 2 * HOP)
    assert sent_long == 1.75 * 191


def test_an_all_reduce_costs_no_more_than_a_scatter_and_a_gather() -> None:
    for size in (1.0, 1e3, 1e6, 1e9):
        whole = cost("all_reduce", 8, size=size)[0]
        halves = cost("reduce_scatter", 8, size=size)[0] + cost("all_gather", 8, size=size)[0]
        assert whole <= halves * (1 + 1e-12)


def test_a_switch_that_adds_moves_the_data_once() -> None:
    seconds, sent = cost("all_reduce", 8, in_network_reduction=True)
    assert seconds == pytest.approx(TRANSFER + 2 * HOP)
    assert sent == SIZE


@pytest.mark.parametrize("function", ["all_gather", "reduce_scatter"])
def test_gather_and_scatter_move_all_but_the_own_part(function: str) -> None:
    on_ring, sent = cost(function, 4, topology=Topology.RING)
    assert on_ring == pytest.approx(0.75 * TRANSFER + 3 * HOP)
    assert sent == 0.75 * SIZE
    assert cost(function, 4)[0] == pytest.approx(0.75 * TRANSFER + HOP)


@pytest.mark.parametrize("degree", [2, 3, 4, 7, 8])
def test_all_to_all_on_a_ring_pays_for_every_hop(degree: int) -> None:
    # Each device has a part of S / p for every other, which makes min(i, p - i) hops.
    hops = sum(min(i, degree - i) for i in range(1, degree))
    seconds, sent = cost("all_to_all", degree, topology=Topology.RING)
    assert sent == pytest.approx(hops * SIZE / degree)
    assert seconds == pytest.approx(hops * SIZE / degree / BANDWIDTH + (degree - 1) * HOP)


def test_all_to_all_through_a_switch_makes_one_hop() -> None:
    seconds, sent = cost("all_to_all", 8)
    assert seconds == pytest.approx(7 / 8 * TRANSFER + HOP)
    assert sent == 7 / 8 * SIZE


def test_a_send_moves_everything_once_whatever_the_degree() -> None:
    for degree in (1, 2, 9):
        assert cost("send", degree) == (pytest.approx(TRANSFER + HOP), SIZE)


@pytest.mark.parametrize("function", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_one_device_or_nothing_to_move_costs_nothing(function: str) -> None:
    assert cost(function, 1) == (0.0, 0.0)
    assert cost(function, 4, size=0.0) == (0.0, 0.0)


def test_message_start_and_efficiency_apply() -> None:
    seconds, _ = cost("send", 2, message_overhead_s=5e-6, efficiency=0.5)
    assert seconds == pytest.approx(2 * TRANSFER + HOP + 5e-6)


@given(
    function=st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"]),
    topology=st.sampled_from(Topology),
    degree=st.integers(2, 70),
    size=st.floats(1, 1e9),
    faster=st.floats(1, 100),
)
def test_a_faster_link_is_never_slower_and_no_device_sends_faster_than_its_link(
    function: str, topology: Topology, degree: int, size: float, faster: float
) -> None:
    seconds, sent = cost(function, degree, size=size, topology=topology)
    quick, _ = cost(function, degree, size=size, topology=topology, bytes_per_s=BANDWIDTH * faster)
    assert quick <= seconds
    assert seconds >= sent / BANDWIDTH * (1 - 1e-12)
    least = {"send": 1.0, "all_reduce": 1.0}.get(function, (degree - 1) / degree)
    assert sent >= least * size * (1 - 1e-12)


def test_the_innermost_link_that_reaches_joins_the_devices() -> None:
    on = machine(links=(link("board", degree=8.0), link("rack", degree=4.0)))

    def found(degree: float) -> list[str]:
        return [entry.name for entry, _ in links_for(on, degree)]

    assert (found(2), found(8), found(9), found(32)) == (["board"], ["board"], ["rack"], ["rack"])
    assert found(33) == []
    assert list(links_for(machine(), 2)) == []


def test_designs_of_a_batch_may_need_different_links() -> None:
    board = link("board", 3, degree=np.array([2.0, 4.0, 8.0]))
    on = machine(3, links=(board, link("rack", 3, degree=2.0)))
    masks = {entry.name: mask.tolist() for entry, mask in links_for(on, 8)}
    assert masks == {"board": [False, False, True], "rack": [False, True, False]}
    # the first design has no link that reaches: 2 x 2 devices


def protocol_cost(
    function: str,
    *protocols: CollectiveProtocol,
    size: float = SIZE,
    degree: float = 8,
    **link_: object,
) -> tuple[float, float]:
    found = collective_cost(
        function,
        link(**link_),
        size_bytes=np.array([size]),
        degree=degree,
        protocols=protocols,  # type: ignore[arg-type]
    )
    return found.seconds.item(), found.sent_bytes.item()


RING = CollectiveProtocol(protocol=Protocol.RING, start_s=5e-6, hop_s=2e-6, efficiency=0.5)
LOW = CollectiveProtocol(protocol=Protocol.LOW_LATENCY, start_s=1e-6, hop_s=0.5e-6, efficiency=0.1)
ONE_SHOT = CollectiveProtocol(protocol=Protocol.ONE_SHOT, start_s=1e-6, efficiency=0.4)
IN_NETWORK = CollectiveProtocol(protocol=Protocol.IN_NETWORK, start_s=9e-6, hop_s=0, efficiency=0.6)


def test_a_library_takes_the_fastest_of_its_protocols() -> None:
    long, sent = protocol_cost("all_reduce", RING, LOW, ONE_SHOT)
    assert long == pytest.approx(5e-6 + 14 * 2e-6 + 1.75 * TRANSFER / 0.5)
    assert sent == 1.75 * SIZE
    middle, _ = protocol_cost("all_gather", RING, LOW, size=1000.0)
    assert middle == pytest.approx(1e-6 + 7 * 0.5e-6 + 0.875 * 1e-6 / 0.1)
    # one shot: the hop is the link's own
    short, sent = protocol_cost("all_reduce", RING, LOW, ONE_SHOT, size=100.0)
    assert short == pytest.approx(1e-6 + HOP + 7 * 100e-9 / 0.4)
    assert sent == 700


def test_protocols_that_function_or_switch_do_not_allow_are_left_out() -> None:
    plain = protocol_cost("all_reduce", RING, IN_NETWORK)[0]
    adds = protocol_cost("all_reduce", RING, IN_NETWORK, in_network_reduction=True)
    assert plain == pytest.approx(5e-6 + 14 * 2e-6 + 1.75 * TRANSFER / 0.5)
    assert adds == (pytest.approx(9e-6 + 9 / 8 * TRANSFER / 0.6), 9 / 8 * SIZE)
    crossed = protocol_cost("all_to_all", RING, IN_NETWORK, in_network_reduction=True)[0]
    assert crossed == pytest.approx(5e-6 + 7 * 2e-6 + 0.875 * TRANSFER / 0.5)
    # without a protocol of the function's own the topology decides, as for any library
    assert protocol_cost("all_gather", ONE_SHOT) == cost("all_gather", 8)
    assert protocol_cost("send", RING)[0] == pytest.approx(5e-6 + 2e-6 + TRANSFER / 0.5)
