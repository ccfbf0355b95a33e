"""The errors that pentarch raises.

    PentarchError
    ├── InputError                 what a user wrote is wrong (exit code 2)
    │   ├── UnknownNameError       no such workload, device, partitioner, ...
    │   ├── FieldError             a field of a file or model has a wrong value
    │   └── MissingFigureError     a figure is needed that nobody has supplied
    ├── PluginError                a plug-in is broken or clashes with another (exit code 2)
    │   ├── PluginUnavailableError what was asked for comes from a plug-in that failed to load
    │   └── DuplicateNameError     two plug-ins provide the same name
    ├── CostError                  a cost is NaN or infinite: names operator and machine (exit code 2)
    └── RunLogError                a run log cannot be read, written or resumed (exit code 2)

An impossible design is not an error but an answer: see `pentarch.results.Infeasible`.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PentarchError(Exception):
    """Base of every error that pentarch raises on purpose."""

    exit_code = 1
    """Exit code of the command line when this error ends a command."""


class InputError(PentarchError):
    """Something that a user wrote is wrong."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name that nothing provides.

    Args:
        kind: What was looked for, in the singular, for example `"partitioner"`.
        name: The name that was asked for.
        known: The names that exist.
        hint: A sentence to end with; by default the command that lists the known names.
    """

    SHOWN = 12

    def __init__(
        self, *, kind: str, name: str, known: Iterable[str], hint: str | None = None
    ) -> None:
        self.kind = kind
        self.name = name
        self.known = sorted(known)
        by_folded_name = {candidate.lower(): candidate for candidate in self.known}
        close = [
            by_folded_name[match]
            for match in get_close_matches(name.lower(), by_folded_name, n=3, cutoff=0.6)
        ]
        self.close = close
        message = f"No {kind} is called {name!r}."
        if close:
            message += f" Did you mean {' or '.join(repr(match) for match in close)}?"
        if self.known:
            shown = ", ".join(self.known[: self.SHOWN])
            rest = len(self.known) - self.SHOWN
            more = f" and {rest} more" if rest > 0 else ""
            message += f"\nKnown: {shown}{more}."
        else:
            message += f"\nNo {kind} is known: no loaded plug-in provides one."
        message += " " + (hint or f"See `pentarch list {kind}s`.")
        super().__init__(message)


class FieldError(InputError):
    """A field has a value that cannot be used.

    Args:
        where: File or model the field belongs to.
        path: Path of the field inside it, for example `"search.chips.int[0]"`.
        problem: What is wrong, with the value found.
        expected: What would be right.
    """

    def __init__(self, *, where: str, path: str, problem: str, expected: str) -> None:
        self.where = where
        self.path = path
        self.problem = problem
        self.expected = expected
        place = f"{where}: {path}" if path else where
        super().__init__(f"{place}: {problem}. Expected {expected}.")


class MissingFigureError(InputError):
    """A figure is unknown and the calculation cannot go on without it.

    Args:
        figure: Name of the figure, with its unit suffix.
        owner: Device or back-end it belongs to.
        supplier: Who or what could supply it.
    """

    def __init__(self, *, figure: str, owner: str, supplier: str) -> None:
        self.figure = figure
        self.owner = owner
        self.supplier = supplier
        super().__init__(f"{figure} of {owner} is unknown. It can be supplied by {supplier}.")


class PluginError(PentarchError):
    """A plug-in is broken or clashes with another."""

    exit_code = 2


class PluginUnavailableError(PluginError):
    """What was asked for would come from a plug-in that failed to load or is disabled."""


class DuplicateNameError(PluginError):
    """Two plug-ins provide the same name.

    Args:
        kind: What both provide, in the singular.
        name: The name that both use.
        first: The plug-in that was loaded first.
        second: The plug-in that clashes with it.
    """

    def __init__(self, *, kind: str, name: str, first: str, second: str) -> None:
        super().__init__(
            f"The {kind} {name!r} is provided by two plug-ins: {first} and {second}. "
            f"Rename one, or leave one out with `--no-plugin {second}`."
        )


class CostError(PentarchError):
    """A cost is NaN, infinite or negative.

    Args:
        figure: Which figure, with its unit suffix.
        operator: The operator being costed.
        machine: The machine it was costed on.
        value: The value found.
    """

    exit_code = 2

    def __init__(self, *, figure: str, operator: str, machine: str, value: float) -> None:
        self.figure = figure
        self.operator = operator
        self.machine = machine
        super().__init__(
            f"{figure} of operator {operator!r} on machine {machine!r} is {value}. "
            "Every cost must be a finite number of at least 0: check the machine's rates, sizes and "
            "energies, or the back-end's `cost_rows`."
        )


class RunLogError(PentarchError):
    """A run log cannot be read, written or resumed."""

    exit_code = 2
