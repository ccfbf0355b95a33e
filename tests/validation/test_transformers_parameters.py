"""Parameter counts against `num_parameters()` of transformers, exactly, for every family.

Models are built on the meta device: shapes without weights, so the largest costs nothing.
"""

from pathlib import Path
from typing import Any

import pytest
from tests.validation.transformers_models import (
    FAMILIES,
    OTHER_CLASSES,
    OTHER_KEYS,
    Family,
    Variant,
    build,
    class_of,
    load,
    save,
    variants,
    write_sparse,
)

from pentarch.catalog import default_library
from pentarch.errors import PentarchError
from pentarch.workload.parameters import parameters

pytestmark = [
    pytest.mark.usefixtures("transformers_installed"),
    pytest.mark.filterwarnings("ignore:::(torch|transformers|huggingface_hub)"),
]


def compare(variant: Variant, folder: Path, **more: Any) -> list[str]:
    """Return where pentarch's count is not the model's.

    Two files are read: one of the altered keys alone, and the one that transformers writes, which
    names the class too.
    """
    sparse = write_sparse(variant, folder / "sparse", **more)
    config = load(sparse)
    model = build(config)
    expected = model.num_parameters()
    config.architectures = config.architectures or [class_of(config).__name__]
    differing = []
    for kind, path in (("sparse", sparse), ("saved", save(config, folder / "saved"))):
        try:
            found = parameters(default_library().workload(path)).total
        except PentarchError as error:
            differing.append(f"{variant.name} ({kind}): {error}")
            continue
        if found != expected:
            differing.append(f"{variant.name} ({kind}): {found} - {expected} = {found - expected}")
    return differing


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_total_is_that_of_the_model(family: Family, tmp_path: Path) -> None:
    differing: list[str] = []
    for number, variant in enumerate(variants(family)):
        differing += compare(variant, tmp_path / str(number))

    assert not differing, "\n".join(differing)


@pytest.mark.parametrize(("model_type", "architecture"), OTHER_CLASSES)
def test_total_is_that_of_the_class_the_configuration_names(
    model_type: str, architecture: str, tmp_path: Path
) -> None:
    variant = Variant(model_type, {})

    assert compare(variant, tmp_path, architectures=[architecture]) == []


@pytest.mark.parametrize(
    "family",
    [family for family in FAMILIES if not family.text_config],
    ids=lambda it: it.model_type,
)
def test_total_is_that_of_the_model_without_its_head(family: Family, tmp_path: Path) -> None:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    *_, variant = variants(family)
    config = load(write_sparse(variant, tmp_path))

    assert compare(variant, tmp_path, architectures=[MODEL_MAPPING[type(config)].__name__]) == []


@pytest.mark.parametrize("variant", OTHER_KEYS, ids=lambda variant: variant.name)
def test_total_is_that_of_the_model_whatever_its_keys_are_called(
    variant: Variant, tmp_path: Path
) -> None:
    assert compare(variant, tmp_path) == []


def test_altered_configurations_use_every_alternative() -> None:
    for family in FAMILIES:
        made = [variant.settings for variant in variants(family) if variant.settings]
        if family.text_config:
            made = [settings["text_config"] for settings in made]
        for axis in family.axes:
            for alternative in axis:
                assert any(alternative.items() <= settings.items() for settings in made)
