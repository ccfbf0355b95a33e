"""A device model seen as a batch: one template, some of its fields swept.

Back-end authors write ordinary arithmetic on a view: `view.lanes * view.clock_hz` is right for one
design and for a million, because every numeric field is a contiguous float64[N].
"""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from pentarch.errors import FieldError
from pentarch.hardware.columns import FieldRole, Floats, check_column, field_specs, filled
from pentarch.model import Model

D = TypeVar("D", bound=Model)


class View(Generic[D]):
    """N designs of one device model.

    A number of the model is float64[N]; an optional number that is unknown is `None`; a mapping
    from names to numbers is a mapping to float64[N]; anything else is the template's plain value.

    Args:
        template: The device that fields not swept are taken from.
        length: Number of designs, N.
        changes: Swept fields, each of shape (N,); `field.key` sweeps one entry of a mapping, which
            need not be there.

    Raises:
        FieldError: A swept field is no number of the model, has another shape, or a value
            that the model does not allow.
    """

    __slots__ = ("_columns", "length", "template")

    def __init__(
        self, template: D, length: int = 1, changes: Mapping[str, Floats] | None = None
    ) -> None:
        self.template = template
        self.length = length
        self._columns: dict[str, Any] = {}
        specs = field_specs(type(template))
        where = f"device {getattr(template, 'name', type(template).__name__)}"
        for path, values in (changes or {}).items():
            name, _, key = path.partition(".")
            spec = specs.get(name)
            wanted = FieldRole.NUMBERS if key else FieldRole.NUMBER
            if spec is None or spec.role is not wanted:
                numbers = [key for key, entry in specs.items() if entry.role is FieldRole.NUMBER]
                raise FieldError(
                    where=where, path=path, problem="cannot be swept: it is not a number of this device",
                    expected="one of " + ", ".join(numbers),
                )  # fmt: skip
            column = np.ascontiguousarray(values, dtype=np.float64)
            if column.shape != (length,):
                raise FieldError(
                    where=where, path=path, problem=f"has the shape {column.shape}",
                    expected=f"an array of shape ({length},)",
                )  # fmt: skip
            check_column(column, spec, where=where, path=path)
            self._columns[name] = {**(getattr(self, name) or {}), key: column} if key else column

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pickle and copy look for hooks before there is a template
            raise AttributeError(name)
        cached = self._columns.get(name)
        if cached is not None:
            return cached
        template = self.template
        spec = field_specs(type(template)).get(name)
        value = getattr(template, name)
        if spec is None or value is None or spec.role is FieldRole.STRUCTURE:
            return value
        if spec.role is FieldRole.NUMBER:
            result: Any = filled(self.length, value)
        else:
            result = {key: filled(self.length, entry) for key, entry in value.items()}
        self._columns[name] = result
        return result

    def known(self, name: str) -> Floats:
        """Return a number that may be unknown, or raise.

        Raises:
            MissingFigureError: The template does not state it.
        """
        from pentarch.errors import MissingFigureError

        value = getattr(self, name)
        if value is None:
            owner = getattr(self.template, "name", type(self.template).__name__)
            raise MissingFigureError(
                figure=name, owner=f"device {owner}", supplier="its YAML or the vendor"
            )
        column: npt.NDArray[np.float64] = value
        return column
