"""Compiled and plain kernels give the same bytes; the cache never stands in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pentarch.mapping import compilation

SAMPLE = """
import hashlib
import numpy as np
from pentarch.mapping.gemm import FrontStore, map_gemms, map_gemms_one_level
from sampling import as_bytes, compute_seconds, random_buffers, random_shape, rows_of

digest = hashlib.sha256()
generator = np.random.default_rng(11)
for index in range(12):
    rows = rows_of(random_shape(generator, 300), 3)
    buffers, macs = random_buffers(generator, 3)
    buffers = type(buffers)(
        np.floor(buffers.sram_bytes / 40), np.floor(buffers.register_bytes / 20),
        buffers.memory_bytes_per_s, buffers.sram_bytes_per_s,
    )
    compute = compute_seconds(rows, macs)
    for shared in (1, 1000):
        store = FrontStore(shared_designs=shared)
        digest.update(as_bytes(map_gemms(rows, buffers, compute, store=store, detail=True)))
    for uneven in (False, True):
        found = map_gemms_one_level(rows, buffers.sram_bytes, True, uneven=uneven, detail=True)
        digest.update(found.memory_read_bytes.tobytes() + found.detail.tile.tobytes())
from pentarch.mapping.compilation import load_kernels
print(hasattr(load_kernels().map_two_boundaries, "py_func"), digest.hexdigest())
"""

CACHED = """
import hashlib
import numpy as np
from tests.unit.mapping.machines import attentions, cached_machine, gemms, request
from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.costs import CacheState
from pentarch.mapping.engine import cost_rows

on = cached_machine(
    3, k_step_bytes=128.0, k_step_s=1e-7, wave_share=np.array([0.3, 0.5, 1.0]), split_s=1e-6
)
stack = Runtime(name="stack", kernels=tuple(
    KernelSet(operator=kind, overlap=2.7) for kind in KernelOperator
))
wide = {"head_dim": 64.0, "value_dim": 64.0}
tables = (
    gemms(*({"rows": m, "k": 900.0, "n": 700.0, "a_formats": "bf16", "b_formats": "bf16"}
            for m in (1.0, 77.0, 3000.0))),
    attentions({"keys": 5000.0, **wide}, {"query_tokens": 300.0, "keys": 900.0, **wide}),
)
digest = hashlib.sha256()
for table in tables:
    for state in (None, CacheState.layer(), CacheState(copies=np.full(len(table.names), 3.0))):
        costs = cost_rows(request(on, table, runtime=stack, cached=state))
        for group in (costs.compute_s, costs.level_s, costs.read_bytes, costs.detail):
            for values in group.values():
                digest.update(np.ascontiguousarray(values).tobytes())
from pentarch.mapping.compilation import load_waves
print(hasattr(load_waves().choose_waves, "py_func"), digest.hexdigest())
"""


def run(code: str, **environment: str) -> list[str]:
    """Return the output lines of `code` in a fresh process."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *sys.path])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("sample", [SAMPLE, CACHED], ids=["scratchpads", "cache"])
def test_compiled_and_plain_kernels_give_the_same_bytes(sample: str) -> None:
    compiled, with_compiler = run(sample)
    plain, without_compiler = run(sample, NUMBA_DISABLE_JIT="1")
    assert (compiled, plain) == ("True", "False")
    assert with_compiler == without_compiler


def test_numba_is_imported_on_the_first_mapping_only() -> None:
    code = "import sys, pentarch.mapping.gemm, pentarch.mapping.attention, pentarch.mapping.single"
    assert run(f"{code}; print('numba' in sys.modules)") == ["False"]


def test_the_cache_goes_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compilation.cache_place.cache_clear()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    try:
        place = compilation.cache_place()
        assert place.note is None
        assert place.directory == tmp_path / "pentarch" / compilation.source_hash()
        assert place.directory.is_dir()
    finally:
        compilation.cache_place.cache_clear()


def test_a_folder_that_cannot_be_written_costs_the_cache_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    compilation.cache_place.cache_clear()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(blocked))
    try:
        place = compilation.cache_place()
        assert place.directory is None
        assert place.note is not None
        assert str(blocked) in place.note
    finally:
        compilation.cache_place.cache_clear()


def test_the_hash_follows_every_kernel_source() -> None:
    folder = Path(compilation.__file__).parent
    decorated = {
        path.stem
        for path in folder.glob("*.py")
        if "@inlined" in path.read_text() or "@compiled" in path.read_text()
    }
    assert decorated == set(compilation.KERNEL_MODULES)


@pytest.mark.parametrize("module", compilation.KERNEL_MODULES)
def test_kernels_carry_no_switch_that_changes_bits(module: str) -> None:
    source = (Path(compilation.__file__).parent / f"{module}.py").read_text()
    assert "prange" not in source
    assert "fastmath" not in source


def test_garbage_waits_for_a_compilation_and_no_longer() -> None:
    code = """
import gc
from numba.core import event
from pentarch.mapping.compilation import load_sums
load_sums()
with event.trigger_event("numba:compile"):
    with event.trigger_event("numba:compile"):
        assert not gc.isenabled()
    assert not gc.isenabled()
assert gc.isenabled()
gc.disable()
with event.trigger_event("numba:compile"):
    pass
assert not gc.isenabled()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
