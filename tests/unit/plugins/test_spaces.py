"""The shipped spaces, on the real evaluator."""

from pathlib import Path

import pentarch as pa
from pentarch.catalog import default_library
from pentarch.hardware.device import Device
from pentarch.search.api import resolve_space

SHARED = {"device", "query.concurrency", "precisions.weights", "precisions.activations",
          "precisions.kv"}  # fmt: skip


def test_the_space_of_any_device_varies_a_soc_and_takes_the_others_as_they_are(
    tmp_path: Path,
) -> None:
    study = pa.search("edge-any", trials=160, seed=5, strategy="random", log=tmp_path / "a.sqlite")
    free = {path for path, entry in resolve_space("edge-any", None).search.items() if entry.when}
    assert {"node", "arrays", "memory"} <= free
    seen = set()
    for trial in study.trials:
        device = str(trial.parameters["device"])
        seen.add(device)
        own = free if device == "edge_soc" else set[str]()
        assert set(trial.parameters) == SHARED | own
    assert len(seen) > 15
    assert any(trial.feasible for trial in study.trials)
    assert study.nearest is not None
    assert study.nearest.evaluation.system == study.nearest.trial.parameters["device"]


def test_the_space_of_any_device_names_every_gpu_with_a_known_price() -> None:
    library = default_library()
    choice = resolve_space("edge-any", None).search["device"]
    named = {str(name) for name in choice.choice}  # type: ignore[union-attr]  # a choice, as written
    gpus: dict[str, Device] = {
        entry.name: library.device(entry.name)
        for entry in library.names("device")
        if entry.plugin in ("gpu", "soc")
    }
    priced = {
        name for name, device in gpus.items() if getattr(device, "price_usd", None) is not None
    }
    assert priced <= named
    assert named <= set(gpus)
