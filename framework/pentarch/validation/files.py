"""Reads validation files and recognizes them by their columns."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pentarch.errors import InputError
from pentarch.validation.mapper import Record, score_evaluator_oracle, score_mapper_oracle
from pentarch.validation.rows import ScoredRow

Scorer = Callable[..., Iterator[ScoredRow]]


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of validation file."""

    name: str
    """What it holds."""
    columns: frozenset[str]
    """Columns that every file of the kind has."""
    score: Scorer
    """Predicts its rows."""


KINDS = (
    FileKind(
        "least traffic behind one buffer",
        frozenset({"kind", "M", "K", "N", "Skv", "buffer_bytes", "even_imperfect"}),
        score_mapper_oracle,
    ),
    FileKind(
        "traffic of given tilings",
        frozenset({"order", "Tm", "Tk", "Tn", "M", "K", "N", "w", "p", "total"}),
        score_evaluator_oracle,
    ),
)
"""Kinds of files that can be scored, the most specific first."""


def score_files(paths: Iterable[Path]) -> tuple[ScoredRow, ...]:
    """Return every row of files and of the CSV files in folders, predicted.

    Raises:
        InputError: A path does not exist, or a named file has the columns of no known kind.
    """
    found: list[ScoredRow] = []
    for path in paths:
        if path.is_dir():
            for file in sorted(path.glob("*.csv")):
                records = read_records(file)
                kind = recognize(records)
                if kind is not None:
                    found.extend(kind.score(records, file=file.name))
            continue
        records = read_records(path)
        kind = recognize(records)
        if kind is None:
            known = "; ".join(
                f"{entry.name} ({', '.join(sorted(entry.columns))})" for entry in KINDS
            )
            raise InputError(
                f"{path} has the columns of no validation file that can be scored. Known: {known}."
            )
        found.extend(kind.score(records, file=path.name))
    return tuple(found)


def read_records(path: Path) -> list[Record]:
    """Return the lines of a CSV file by column; lines that begin with `#` are comments.

    Raises:
        InputError: The file cannot be read as text, or has no lines.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}. Expected a CSV file.") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    records: list[Record] = list(csv.DictReader(lines))
    if not records:
        raise InputError(f"{path} has no rows. Expected a CSV file with a header and rows.")
    return records


def recognize(records: Sequence[Record]) -> FileKind | None:
    """Return the kind whose columns the records have, or `None`."""
    columns = set(records[0])
    return next((kind for kind in KINDS if kind.columns <= columns), None)
