"""Calibrations as YAML files of the catalog."""

import json

from pentarch.hardware.calibration import CalibratedParameter, Calibration

FIELDS = ("backend", "device", "family", "runtime")
"""Whose calibration it is."""


def calibration_text(calibration: Calibration) -> str:
    """Return the file of a calibration; the name is that of the file.

    Equal calibrations have equal files.
    """
    lines = ["kind: calibration", f"about: {_text(calibration.about)}"]
    for name in FIELDS:
        value = getattr(calibration, name)
        if value is not None:
            lines.append(f"{name}: {_text(value)}")
    if calibration.devices:
        lines.append(f"devices: [{', '.join(_text(name) for name in calibration.devices)}]")
    lines += [f"source: {_text(calibration.source)}", f"date: {calibration.date.isoformat()}"]
    errors = ", ".join(f"{name}: {_number(value)}" for name, value in calibration.error.items())
    lines += [f"error: {{{errors}}}", "parameters:"]
    lines += [
        f"  {_text(name)}: {{{_parameter(one)}}}" for name, one in calibration.parameters.items()
    ]
    return "\n".join(lines) + "\n"


def _parameter(one: CalibratedParameter) -> str:
    parts = [f"value: {_number(one.value)}"]
    for name in ("prior", "facts"):
        value = getattr(one, name)
        if value is not None:
            parts.append(f"{name}: {_number(value)}")
    if one.interval is not None:
        low, high = one.interval
        parts.append(f"interval: [{_number(low)}, {_number(high)}]")
    parts.append(f"identified: {'true' if one.identified else 'false'}")
    return ", ".join(parts)


def _number(value: float) -> str:
    return repr(float(value))


def _text(value: str) -> str:
    """Return a text as YAML: bare where it is a plain word, else in quotes."""
    return value if value.replace("_", "").replace(".", "").isalpha() else json.dumps(value)
