"""`pentarch map` behind a buffer; devices are tested with the study behind the command."""

import json

import pytest

from pentarch.cli.main import main


def test_a_gemm_behind_a_buffer_has_its_traffic_bound_and_next_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["map", "2048", "12288", "12288", "--buffer", "2MiB", "--json"])
    found = json.loads(capsys.readouterr().out)
    # Least traffic by exhaustive search; bound of Hong and Kung: 2 M K N / sqrt(S) - 2 S
    assert found["traffic_bytes"] == sum(found["traffic"].values()) == 503_316_480
    assert found["bound_bytes"] == pytest.approx(2 * 2048 * 12288**2 / 2**10.5 - 2 * 2**21)
    assert found["gap"] == pytest.approx(503_316_480 / found["bound_bytes"] - 1.0)
    assert found["next_capacity_bytes"] > 2**21
    assert found["next_traffic_bytes"] < 503_316_480


def test_the_text_shows_certificate_and_loop_nest(capsys: pytest.CaptureFixture[str]) -> None:
    main(["map", "100", "77", "131", "--buffer", "1000B"])
    text = capsys.readouterr().out
    assert "81,861 bytes" in text
    assert "lower bound" in text
    assert "next step    76,548 bytes from a buffer of 1,169 bytes" in text
    assert text.count("in steps of") == 3


def test_an_objective_needs_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["map", "8", "8", "8", "--buffer", "64B", "--objective", "energy"])
    assert status != 0
    assert "--objective energy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--device", "edge_soc", "--convention", "uneven"], "--convention"),
        (["--device", "edge_soc", "--perfect"], "--perfect"),
        (["--device", "edge_soc", "--word-bytes", "2"], "--word-bytes"),
        (["--buffer", "1MiB", "--weights", "int8"], "--weights"),
        (["--buffer", "0"], "--buffer"),
        (["--buffer", "1MiB", "--partial-bytes", "nan"], "--partial-bytes"),
    ],
)
def test_an_option_without_effect_or_sense_is_an_error(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["map", "8", "8", "8", *arguments]) == 2
    assert f"`{named}`" in capsys.readouterr().err


def test_what_does_not_fit_has_every_key_and_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "8", "8", "8", "--buffer", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["traffic_bytes"] is None
    assert document["bound_bytes"] is None
    assert document["short_bytes"] == 1.0  # three words of a byte in two
