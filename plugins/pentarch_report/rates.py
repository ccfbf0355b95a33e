"""How fast an operator runs, and on how much work per byte: the coordinates of a roofline."""

from pentarch.results import OperatorCost


def intensity(operator: OperatorCost, level: str) -> float | None:
    """Return the FLOPs that an operator executes per byte read or written at a level.

    Args:
        operator: The operator.
        level: Name of the storage level.

    Returns:
        FLOP/byte; `None` when it moves nothing there.
    """
    moved = operator.read_bytes.get(level, 0.0) + operator.write_bytes.get(level, 0.0)
    return 2.0 * operator.executed_macs / moved if moved > 0 else None


def rate(operator: OperatorCost) -> float | None:
    """Return the FLOPs that an operator executes per second; `None` when it takes no time."""
    return 2.0 * operator.executed_macs / operator.time_s if operator.time_s > 0 else None
