"""Structure of a space: the order of dependent parameters, its size, and every design in it."""

from collections import Counter
from collections.abc import Iterator, Mapping

from pentarch.errors import FieldError
from pentarch.results import Scalar
from pentarch.search.distributions import Choice, Distribution, FloatRange, IntRange

Parameters = Mapping[str, Distribution]
"""Distributions by parameter path."""

Finite = Choice | IntRange
"""Distributions that can be enumerated."""


def check_conditions(search: Parameters, *, where: str) -> None:
    """Check that every condition names another parameter and values that it can have.

    Raises:
        FieldError: A condition can never hold, or conditions depend on each other in a circle.
    """
    for path, distribution in search.items():
        for parent, wanted in distribution.when.items():
            at = f"search.{path}.when.{parent}"
            other = search.get(parent)
            if other is None or parent == path:
                others = ", ".join(sorted(set(search) - {path})) or "(there is no other)"
                raise FieldError(
                    where=where, path=at, problem="is no other parameter of the space",
                    expected=f"one of {others}",
                )  # fmt: skip
            if isinstance(other, FloatRange):
                raise FieldError(
                    where=where, path=at, problem=f"{parent} is continuous",
                    expected="a parameter of choices or whole numbers",
                )  # fmt: skip
            for value in wanted:
                if not other.allows(value):
                    raise FieldError(
                        where=where, path=at, problem=f"{parent} is never {value!r}",
                        expected=_allowed(other),
                    )  # fmt: skip
    dependency_order(search, where=where)


def _allowed(distribution: Finite) -> str:
    if isinstance(distribution, Choice):
        return "one of " + ", ".join(map(repr, distribution.choice))
    low, high = distribution.bounds
    steps = f" in steps of {distribution.step}" if distribution.step != 1 else ""
    return f"a whole number from {low} to {high}{steps}"


def dependency_order(search: Parameters, *, where: str = "space") -> tuple[str, ...]:
    """Return the parameters so that each follows those its conditions name, else as written.

    Raises:
        FieldError: Conditions depend on each other in a circle.
    """
    order: list[str] = []
    done: set[str] = set()
    waiting = list(search)
    while waiting:
        ready = [path for path in waiting if done.issuperset(search[path].when)]
        if not ready:
            raise FieldError(
                where=where, path=f"search.{waiting[0]}.when",
                problem=f"the conditions of {', '.join(waiting)} depend on each other in a circle",
                expected="conditions that lead to a parameter without any",
            )  # fmt: skip
        order.append(ready[0])
        done.add(ready[0])
        waiting.remove(ready[0])
    return tuple(order)


def is_active(distribution: Distribution, point: Mapping[str, Scalar]) -> bool:
    """Return whether a parameter exists beside the values of `point`, which lack inactive ones."""
    return all(
        parent in point and point[parent] in wanted for parent, wanted in distribution.when.items()
    )


def active_part(
    search: Parameters, order: tuple[str, ...], genes: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """Return the parameters of `genes` that exist, in dependency order.

    Args:
        search: The space.
        order: Its dependency order.
        genes: A value for every parameter, dormant ones included.
    """
    point: dict[str, Scalar] = {}
    for path in order:
        if path in genes and is_active(search[path], point):
            point[path] = genes[path]
    return point


def finite(search: Parameters, *, where: str = "space") -> dict[str, Finite]:
    """Return the parameters as finite ones.

    Raises:
        FieldError: One is continuous.
    """
    parameters: dict[str, Finite] = {}
    for path, distribution in search.items():
        if isinstance(distribution, FloatRange):
            raise FieldError(
                where=where, path=f"search.{path}",
                problem="is continuous, so the space cannot be enumerated",
                expected="choice or int for every parameter, or a strategy such as nsga2",
            )  # fmt: skip
        parameters[path] = distribution
    return parameters


def size(search: Parameters) -> int | None:
    """Return the number of different designs, `None` when a parameter is continuous.

    Only parameters that others depend on are branched over, and only once for each set of
    conditions that their values fulfill.
    """
    if any(isinstance(distribution, FloatRange) for distribution in search.values()):
        return None
    parameters = finite(search)
    order = dependency_order(search)
    wanted_of: dict[str, set[tuple[Scalar, ...]]] = {}
    for distribution in parameters.values():
        for parent, wanted in distribution.when.items():
            wanted_of.setdefault(parent, set()).add(wanted)
    classes = {path: _classes(parameters[path], wanted) for path, wanted in wanted_of.items()}

    def count(index: int, chosen: dict[str, Scalar]) -> int:
        if index == len(order):
            return 1
        path = order[index]
        if not is_active(parameters[path], chosen):
            return count(index + 1, chosen)
        if path not in classes:
            return parameters[path].cardinality * count(index + 1, chosen)
        return sum(
            multiplicity * count(index + 1, {**chosen, path: value})
            for value, multiplicity in classes[path]
        )

    return count(0, {})


def _classes(
    distribution: Finite, wanted: set[tuple[Scalar, ...]]
) -> tuple[tuple[Scalar, int], ...]:
    conditions = sorted(wanted, key=repr)
    representative: dict[tuple[bool, ...], Scalar] = {}
    multiplicity: Counter[tuple[bool, ...]] = Counter()
    for value in distribution.values():
        signature = tuple(value in values for values in conditions)
        representative.setdefault(signature, value)
        multiplicity[signature] += 1
    return tuple((value, multiplicity[signature]) for signature, value in representative.items())


def designs(search: Parameters) -> Iterator[dict[str, Scalar]]:
    """Yield every design once, the last parameter of the dependency order varying fastest.

    Raises:
        FieldError: A parameter is continuous.
    """
    order = dependency_order(search)
    parameters = finite(search)
    point: dict[str, Scalar] = {}

    def extend(index: int) -> Iterator[dict[str, Scalar]]:
        if index == len(order):
            yield dict(point)
            return
        path = order[index]
        if not is_active(parameters[path], point):
            yield from extend(index + 1)
            return
        for value in parameters[path].values():
            point[path] = value
            yield from extend(index + 1)
        del point[path]

    return extend(0)
