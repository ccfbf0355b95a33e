"""What crosses the memory boundary when data live in the outermost on-chip buffer."""

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Floats
from pentarch.mapping.costs import RowRequest

Rows = npt.NDArray[np.intp]


def memory_bytes(
    request: RowRequest, rows: Rows, moved: tuple[Floats, Floats], weights: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Return the bytes of one GEMM that memory delivers and takes, shape (rows, N) each.

    Weights that live on chip are not read from memory. Where activations stay, only weights are
    read, each word once: inputs and sums are at hand whatever the order of the loops.

    Args:
        request: Says what lives on chip.
        rows: Positions of the rows.
        moved: Bytes read and written by the mapping that was found, as if activations moved.
        weights: Bytes of weights among those read, and the bytes of all weights once.
    """
    read, write = moved
    share, stays = request.resident_weights, request.resident_activations
    if share is None and stays is None:
        return moved
    streamed, once = weights
    others = read - streamed
    if stays is not None:
        inside = stays[rows]
        streamed = np.where(inside, np.minimum(streamed, once), streamed)
        others, write = np.where(inside, 0.0, others), np.where(inside, 0.0, write)
    if share is not None:
        streamed = streamed * (1.0 - share[rows])
    return others + streamed, write


def fully_resident(
    request: RowRequest, rows: Rows, shape: tuple[int, ...]
) -> npt.NDArray[np.bool_] | None:
    """Return whether all weights of a row live on chip, (rows, N), `None` where none do."""
    share = request.resident_weights
    return None if share is None else np.broadcast_to(share[rows] >= 1.0, shape)
