"""Where the partial sums of operators that are cut by rows have to be reduced.

Each device of a group holds one partial sum of what such an operator makes. Sums commute: partial
sums that are only added to each other are added on each device first and reduced once among the
devices, whether they come from shared and routed experts or from attention and feed-forward block
in parallel. What is complete on every device, such as the residual stream, is added behind the
reduction, else each device would add it again (definitions.md, Partial sums).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.operators import Gemm, Operator, Split, Vector

_SUMS = frozenset({"add", "expert_combine"})
"""Functions of vector operators that add what they read, each value times factors that every device
has whole: scores of the router, the gate of shared experts."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """Partial sums that meet in one reduction among the devices."""

    gemms: tuple[Gemm, ...]
    """Operators that make them, in the order of the graph."""

    @property
    def last(self) -> Gemm:
        """The operator after which every partial sum exists."""
        return self.gemms[-1]


def reductions(graph: WorkloadGraph) -> tuple[Reduction, ...]:
    """Return the reductions that a graph needs whose operators are all cut as they may be.

    Args:
        graph: Of one phase, folded or not.

    Returns:
        One for each sum of partial sums, in the order of their last operators. Every GEMM that is
        cut by rows is in exactly one of them.
    """
    widths, readers = _edges(graph)
    position = {operator.name: index for index, operator in enumerate(graph.operators)}
    partial: dict[str, tuple[Gemm, ...]] = {}  # by the operator that hands the partial sum on
    found: list[tuple[Gemm, ...]] = []
    for operator in graph.operators:
        sources = widths.get(operator.name, {})
        met = [name for name in sources if name in partial]
        if met:
            sums = _added(operator, [partial.pop(name) for name in met])
            waits = len(sums) == 1 and readers[operator.name] == 1
            if waits and _reads_partial_sums_only(operator, sources, met):
                partial[operator.name] = sums[0]
            else:
                found += sums
        if isinstance(operator, Gemm) and operator.split is Split.ROWS:
            if readers[operator.name] == 1:
                partial[operator.name] = (operator,)
            else:  # another reader may need the whole
                found.append((operator,))
    found += partial.values()
    ordered = (tuple(sorted(gemms, key=lambda one: position[one.name])) for gemms in found)
    return tuple(
        Reduction(gemms) for gemms in sorted(ordered, key=lambda one: position[one[-1].name])
    )


def _edges(graph: WorkloadGraph) -> tuple[Mapping[str, Mapping[str, int]], Counter[str]]:
    """Return the values per row of every input by consumer and producer, and readers by producer."""
    widths: dict[str, dict[str, int]] = {}
    readers: Counter[str] = Counter()
    for producer, consumer, values in graph.networkx.edges(data=True):
        widths.setdefault(consumer, {})[producer] = values["shape"][-1]
        readers[producer] += 1
    return widths, readers


def _added(operator: Operator, arriving: Sequence[tuple[Gemm, ...]]) -> list[tuple[Gemm, ...]]:
    """Return the partial sums that `operator` reads, as one if it adds them as often as they are made."""
    runs = {(gemm.layer, gemm.repeat) for gemms in arriving for gemm in gemms}
    if _is_sum(operator) and runs == {(operator.layer, operator.repeat)}:
        return [tuple(gemm for gemms in arriving for gemm in gemms)]
    return list(arriving)


def _is_sum(operator: Operator) -> bool:
    return isinstance(operator, Vector) and operator.function in _SUMS


def _reads_partial_sums_only(
    operator: Operator, sources: Mapping[str, int], met: Iterable[str]
) -> bool:
    """Return whether all that `operator` adds are partial sums; factors are of another width."""
    summed = set(met)
    width = {sources[name] for name in summed}
    addends = {name for name, features in sources.items() if features in width}
    return _is_sum(operator) and addends == summed
