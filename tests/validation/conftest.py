"""What the comparison with transformers needs, or why it cannot be made."""

import importlib
import os
import sys
import warnings
from pathlib import Path

import pytest


def _missing() -> str | None:
    """Return why transformers cannot be used, or `None`."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read at import; no configuration comes from elsewhere
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their own code, which no change here could quiet
        for package in ("torch", "transformers"):
            try:
                importlib.import_module(package)
            except ImportError as error:
                return f"{package} cannot be imported: {error}{_problem()}"
    import transformers

    transformers.logging.set_verbosity_error()
    return None


def _problem() -> str:
    """Return what the Makefile noted when it could not install the extra."""
    note = Path(sys.prefix) / "validation-problem"
    if not note.is_file():
        return ". Install the extra: pip install 'pentarch[validation]'"
    return f"; pip install 'pentarch[validation]' said: {note.read_text(encoding='utf-8')[-600:]}"


@pytest.fixture(scope="session")
def transformers_installed() -> None:
    """Fail where CI=true, and skip elsewhere, if transformers is missing."""
    reason = _missing()
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
