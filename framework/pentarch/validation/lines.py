"""Lines of a CSV file that know where they stand, so that a wrong one can be named."""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from pentarch.errors import FieldError, InputError


class Line(dict[str, str]):
    """One line of a file by column.

    Args:
        values: Text by column.
        where: The file and the number of the line, for errors.
    """

    __slots__ = ("where",)

    def __init__(self, values: Mapping[str, str], *, where: str) -> None:
        super().__init__(values)
        self.where = where

    def text(self, name: str) -> str:
        """Return a column that must hold something.

        Raises:
            FieldError: It is empty or absent.
        """
        value = self.get(name, "").strip()
        if not value:
            raise FieldError(
                where=self.where, path=name, problem="is empty", expected="a name or number"
            )
        return value

    def number(self, name: str) -> float:
        """Return a column that must hold a finite number of at least 0.

        Raises:
            FieldError: It holds something else.
        """
        found = self.number_or_none(name)
        if found is None:
            raise FieldError(where=self.where, path=name, problem="found ''", expected="a number")
        return found

    def number_or_none(self, name: str) -> float | None:
        """Return a column that may be empty.

        Raises:
            FieldError: It holds something that is no finite number of at least 0.
        """
        text = (self.get(name) or "").strip()
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0:
            raise FieldError(
                where=self.where, path=name, problem=f"found {text!r}",
                expected="a finite number of at least 0",
            )  # fmt: skip
        return value

    def positive(self, name: str) -> float:
        """Return a column that must hold a number above 0.

        Raises:
            FieldError: It holds something else.
        """
        value = self.number(name)
        if value <= 0:
            raise FieldError(
                where=self.where, path=name, problem=f"found {self[name]!r}",
                expected="a number above 0",
            )  # fmt: skip
        return value

    def seconds(self, name: str) -> float:
        """Return a time that the column states in milliseconds."""
        return self.positive(name) * 1e-3

    def flags(self) -> frozenset[str]:
        """Return the entries of the column `flags`, which end in semicolons."""
        return frozenset(flag for flag in (self.get("flags") or "").split(";") if flag.strip())


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a CSV file; those that begin with `#` are comments.

    Raises:
        InputError: The file cannot be read as text, or has no lines.
        FieldError: A line has more or fewer columns than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}. Expected a CSV file.") from None
    numbered = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]
    if len(numbered) < 2:
        raise InputError(f"{path} has no rows. Expected a CSV file with a header and rows.")
    rows = csv.reader(line for _, line in numbered)
    header = [name.strip() for name in next(rows)]
    found = []
    for (number, _), values in zip(numbered[1:], rows, strict=False):
        where = f"{path.name}, line {number}"
        if len(values) != len(header):
            raise FieldError(
                where=where, path="", problem=f"has {len(values)} columns",
                expected=f"the {len(header)} of the header",
            )  # fmt: skip
        found.append(Line(dict(zip(header, values, strict=True)), where=where))
    return found


def columns_of(lines: Iterable[Line]) -> frozenset[str]:
    """Return the columns that lines of one file have."""
    return frozenset(next(iter(lines), {}))
