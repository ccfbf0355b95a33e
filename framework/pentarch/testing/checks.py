"""What the conformance classes share: running a check, and failures that are expected."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

import pytest

C = TypeVar("C")
Check = Callable[[C], None]


class NonConformanceError(AssertionError):
    """A plug-in does not keep its contract."""


def require(holds: bool, problem: str) -> None:
    """Raise a `NonConformanceError` unless `holds`.

    Args:
        holds: What the contract asks for.
        problem: What is wrong, where, and what would be right.
    """
    if not holds:
        raise NonConformanceError(problem)


class Conformance:
    """Base of the conformance classes."""

    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Reason by name of each check that is known to fail; strict."""
    checks: ClassVar[Sequence[Callable[..., None]]] = ()
    """The checks that the class runs."""

    def test_expected_failures_are_checks(self) -> None:
        """Every entry of `expected_failures` names a check and gives a reason."""
        known = sorted(check.__name__ for check in self.checks)
        for name, reason in self.expected_failures.items():
            require(name in known, f"No check is called {name!r}. Known: {', '.join(known)}.")
            require(bool(reason.strip()), f"{name} is expected to fail, but no reason is given.")

    def run(self, check: Check[C], cases: Sequence[C]) -> None:
        """Run a check on every case; a failure that is expected becomes an xfail.

        Args:
            check: A function `check_*`.
            cases: What it is run on; at least one.
        """
        require(bool(cases), f"There is nothing to run {check.__name__} on.")
        reason = self.expected_failures.get(check.__name__)
        try:
            for case in cases:
                check(case)
        except Exception as error:  # whatever fails is what was expected; its cause is shown
            if reason is None:
                raise
            pytest.xfail(f"{reason} ({type(error).__name__}: {error})")
        if reason is not None:
            raise NonConformanceError(
                f"{check.__name__} passes. Remove it from `expected_failures` ({reason!r})."
            )


def check_describes_itself(provided: object, attributes: Sequence[str]) -> None:
    """Require that text attributes are present and not empty."""
    for attribute in attributes:
        value = getattr(provided, attribute, None)
        require(
            isinstance(value, str) and bool(value.strip()),
            f"{type(provided).__name__}.{attribute} is {value!r}. Expected a text.",
        )


def check_is_stateless(provided: object) -> None:
    """Require that an instance holds nothing."""
    state = getattr(provided, "__dict__", {})
    require(
        not state,
        f"{type(provided).__name__} holds {', '.join(sorted(state))} after use. Instances are "
        "shared by threads and designs: compute from the arguments instead.",
    )
