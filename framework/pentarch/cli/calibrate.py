"""`pentarch calibrate`: fits of physical parameters to measurements."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pentarch.cli.files import Force, write_whole
from pentarch.cli.output import JsonFlag, library, print_json
from pentarch.errors import InputError

if TYPE_CHECKING:
    from pentarch.hardware.calibration import CalibratedParameter
    from pentarch.validation.calibrate import FitRequest, Result

PRINTED = ("mape", "median_ape", "bias")
"""Errors that the text shows."""


Files = Annotated[
    list[Path] | None, typer.Argument(metavar="FILE...", help="CSV files of measured kernels.")
]
DeviceName = Annotated[
    str | None, typer.Option("--device", metavar="D", help="Fit this device, stacks held fixed.")
]
RuntimeName = Annotated[
    str | None, typer.Option("--runtime", metavar="R", help="Fit this stack, devices held fixed.")
]
ThisMachine = Annotated[
    bool,
    typer.Option("--this-machine", help="Measure the processor it runs on, make a device of it."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="PATH", help="File (.yaml) or folder to write. [default: .]"),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", help="Fit only this one, of a stack also all that begin so; may be repeated."
    ),
]
Operators = Annotated[
    list[str] | None, typer.Option("--operator", help="Use only its rows; may be repeated.")
]
PrecisionNames = Annotated[
    list[str] | None, typer.Option("--precision", help="Use only its rows; may be repeated.")
]
LeftOut = Annotated[
    str | None,
    typer.Option(
        "--leave-out", metavar="DEVICE|FAMILY", help="Fit as if it had never been measured."
    ),
]
Independent = Annotated[
    bool, typer.Option("--independent", help="Let no other device move the priors.")
]
Day = Annotated[
    str | None,
    typer.Option("--date", metavar="YYYY-MM-DD", help="Day to state. [default: today]"),
]
Seconds = Annotated[
    float, typer.Option("--seconds", help="Time for measuring with --this-machine.")
]


def calibrate(
    paths: Files = None,
    device: DeviceName = None,
    runtime: RuntimeName = None,
    this_machine: ThisMachine = False,
    out: Out = None,
    parameter: Parameters = None,
    operator: Operators = None,
    precision: PrecisionNames = None,
    leave_out: LeftOut = None,
    independent: Independent = False,
    date: Day = None,
    seconds: Seconds = 20.0,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Fit physical parameters to measurements.

    Without --out the result is written to ./DEVICE.yaml or ./RUNTIME.yaml; --this-machine writes
    with --out only.
    """
    chosen = [name for name, is_set in (
        ("--device", device), ("--runtime", runtime), ("--this-machine", this_machine)
    ) if is_set]  # fmt: skip
    if len(chosen) != 1:
        raise InputError(
            f"Found {' and '.join(chosen) or 'none'} of --device, --runtime and --this-machine. "
            "Give exactly one: `pentarch calibrate FILE --device h100_sxm`."
        )
    if this_machine:
        _measure(paths, out, seconds, force=force, as_json=as_json)
        return
    if not paths:
        raise InputError("No file of measured kernels. Name at least one CSV file.")
    owner = device or runtime or ""
    target = _target(out, Path(owner).stem if device else owner)
    from pentarch.validation.calibrate import FitRequest
    from pentarch.validation.fit_rows import RowFilter

    request = FitRequest(
        name=target.stem, date=_day(date), parameters=tuple(parameter or ()),
        chosen=RowFilter(operators=frozenset(operator or ()), precisions=frozenset(precision or ())),
        independent=independent,
    )  # fmt: skip
    result = _fit(paths, device, owner, leave_out, request)
    from pentarch.validation.calibration_file import calibration_text

    written = write_whole(target, calibration_text(result.calibration), force=force)
    if as_json:
        print_json(document(result))
    else:
        _print(result)
        print(f"Written to {written}.")


def _fit(
    paths: Sequence[Path], device: str | None, owner: str, leave_out: str | None,
    request: "FitRequest",
) -> "Result":  # fmt: skip
    from dataclasses import replace

    from pentarch.validation.calibrate import calibrate_device
    from pentarch.validation.calibrate_runtime import calibrate_runtime
    from pentarch.validation.fit_rows import read_rows

    found = library()
    if leave_out is not None:
        found = found.leaving_out(leave_out)
        rows = replace(request.chosen, left_out=found.devices_left_out)
        request = replace(request, chosen=rows)
    used = read_rows(paths, found, request.chosen)
    if device is not None:
        return calibrate_device(used, owner, found, request)
    return calibrate_runtime(used, owner, found, request)


def document(result: "Result") -> dict[str, object]:
    """Return a result as its JSON."""
    calibration = result.calibration
    return {
        "device": calibration.device, "runtime": calibration.runtime, "source": calibration.source,
        "date": calibration.date.isoformat(), "devices": calibration.devices,
        "parameters": calibration.parameters, "before": result.before, "after": result.after,
    }  # fmt: skip


def _measure(
    paths: Sequence[Path] | None, out: Path | None, seconds: float, *, force: bool, as_json: bool
) -> None:
    """Measure the processor that this runs on, and write it as a device."""
    from pentarch.validation.this_machine import calibrate_this_machine, write_device

    if paths:
        raise InputError("--this-machine measures and reads no FILE. Leave the files out.")
    if out is not None and out.suffix != ".yaml":
        raise InputError(
            f"{out} is no YAML file. Name a file that ends in .yaml: its stem is the name."
        )
    if out is not None and out.exists() and not force:
        raise InputError(f"{out} exists. Choose another name, or write over it with `--force`.")
    name = "this_machine" if out is None else out.stem
    progress = None if as_json else print
    found = calibrate_this_machine(library(), name=name, seconds=seconds, progress=progress)
    if out is not None:
        write_device(found, out)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    _print_parameters(found.parameters)
    for note in found.notes:
        print(note)
    if out is not None:
        print(f"Written to {out}.")


def _target(out: Path | None, name: str) -> Path:
    """Return the file to write: `out` itself if it ends in .yaml, else one in the folder `out`."""
    if out is not None and out.suffix in (".yaml", ".yml"):
        return out
    return (out or Path()) / f"{name}.yaml"


def _day(text: str | None) -> datetime.date:
    if text is None:
        return datetime.date.today()
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--date: found {text!r}. Give a day as in 2026-01-31.") from error


def _print(result: "Result") -> None:
    calibration = result.calibration
    print(f"{calibration.device or calibration.runtime}: {calibration.source}")
    if calibration.devices and calibration.device:
        print(f"priors moved by {', '.join(calibration.devices)}")
    for when, errors in (("at the priors", result.before), ("fitted", result.after)):
        shown = ", ".join(f"{name.replace('_ape', '')} {errors[name]:.3f}" for name in PRINTED)
        print(f"  {when}: {shown}, {errors['rows']:.0f} rows")
    _print_parameters(calibration.parameters)


def _print_parameters(parameters: "Mapping[str, CalibratedParameter]") -> None:
    width = max(len(name) for name in parameters)
    print(f"  {'parameter':<{width}} {'value':>10} {'prior':>10}  90 % interval")
    for name, one in parameters.items():
        prior = "-" if one.prior is None else f"{one.prior:.4g}"
        interval = "" if one.interval is None else f"{one.interval[0]:.3g} .. {one.interval[1]:.3g}"
        left = "" if one.identified else "  not identified"
        print(f"  {name:<{width}} {one.value:>10.4g} {prior:>10}  {interval}{left}")
    if not all(one.identified for one in parameters.values()):
        print("  What the rows do not identify stays at its prior.")
