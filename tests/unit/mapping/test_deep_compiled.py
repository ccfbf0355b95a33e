"""The search behind many boundaries gives the same bytes with and without the compiler."""

from .test_compilation import run

SAMPLE = """
import hashlib
import numpy as np
from pentarch.mapping.deep import DeepBuffers, DeepLevel, map_gemms_deep
from pentarch.mapping.gemm import GemmRows

one, digest = np.ones(1), hashlib.sha256()
for m, k, n, objective in ((9, 17, 5, "time"), (3, 12, 14, "energy"), (7, 6, 11, "edp")):
    rows = GemmRows(np.array([[float(m)]]), k * one, n * one, one, one, one, 4 * one, 4 * one)
    levels = [DeepLevel(None, one, read_j_per_byte=one)]
    for size, rate in ((150.0, 2.0), (60.0, 5.0), (20.0, 9.0)):
        levels.append(DeepLevel(
            size * one, rate * one, 0.6 * rate * one, one / rate, 2 * one / rate
        ))
    found = map_gemms_deep(
        rows, DeepBuffers(tuple(levels), np.zeros((1, 1))), objective=objective, detail=True
    )
    for values in (found.read_bytes, found.write_bytes, found.time_s, found.energy_j, found.gap,
                   found.detail.tile, found.detail.kept):
        digest.update(values.tobytes())
from pentarch.mapping.compilation import load_deep_kernels
print(hasattr(load_deep_kernels().map_any_boundaries, "py_func"), digest.hexdigest())
"""


def test_compiled_and_plain_kernels_give_the_same_bytes() -> None:
    compiled, with_compiler = run(SAMPLE)
    plain, without_compiler = run(SAMPLE, NUMBA_DISABLE_JIT="1")
    assert (compiled, plain) == ("True", "False")
    assert with_compiler == without_compiler
