import pytest

from pentarch.catalog import default_library
from pentarch.workload.parameters import parameters


@pytest.mark.parametrize(
    ("name", "billions", "digits"),
    [
        # LLaMA, 2023, table 2
        ("llama-7b", 6.7, 1), ("llama-13b", 13.0, 1), ("llama-33b", 32.5, 1), ("llama-65b", 65.3, 1),
        # model cards of Llama 3.1, 3.2 and 3.3
        ("llama-3.1-8b", 8.03, 2), ("llama-3.1-70b", 70.6, 1), ("llama-3.1-405b", 406, 0),
        ("llama-3.2-1b", 1.24, 2), ("llama-3.2-3b", 3.21, 2), ("llama-3.3-70b", 70.6, 1),
    ],
)  # fmt: skip
def test_parameters_agree_with_the_published_count(name: str, billions: float, digits: int) -> None:
    assert round(parameters(default_library().workload(name)).total / 1e9, digits) == billions
