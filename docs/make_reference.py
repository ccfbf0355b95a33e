"""Writes the pages of `docs/reference/` from the code that they describe.

    python docs/make_reference.py            write the pages
    python docs/make_reference.py --check    change nothing; exit 1 if a page is out of date

Only the plug-ins of this distribution are described, whatever else is installed.
"""

import argparse
import contextlib
import inspect
import io
import json
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from schema_text import field_table, keys
from source_text import attribute_line, attributes, docstring, first_line, one_line, signature

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
WIDTH = 80
"""Columns of help texts."""
GENERATED = (
    "<!-- Written by docs/make_reference.py: change the code that it reads, not this page. -->"
)

EXAMPLES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "list": (("list", "backends"), ("list", "plugins")),
    "show": (
        ("show", "llama-3-8b"), ("show", "edge_soc"), ("show", "8xh100"), ("show", "vllm-graphs"),
        ("show", "edge-soc"), ("show", "soc", "--kind", "backend"), ("show", "tensor"),
        ("show", "soc", "--kind", "plugin"),
    ),
    "graph": (("graph", "llama-3-8b"),),
    "map": (("map", "1024", "4096", "4096", "--buffer", "1MiB"),),
    "partition": (("partition", "llama-3-8b", "8xh100_sxm"),),
    "runs": (
        ("runs", "list", "{folder}"), ("runs", "show", "{log}"),
        ("runs", "export", "{log}", "--out", "{folder}/trials.csv"),
    ),
    "schema": (("schema", "space"),),
    "validate": (("validate", "{oracles}/mapper_oracle.csv", "--worst", "1"),),
    "calibrate": (
        ("calibrate", "{oracles}/measured/aic_gemm.csv", "--device", "h100_sxm", "--precision", "bf16",
         "--out", "{folder}/h100_sxm.yaml"),
    ),
    "report": (("report", "{log}", "--out", "{folder}/report.html"),),
}  # fmt: skip
"""Commands whose JSON is not one model: their keys are read from what they print."""
NOT_DESCRIBED = "Its JSON has no entry in EXAMPLES or MODELS of `docs/make_reference.py` yet."
"""Stands where nobody has said how to find the keys; a test fails on it."""
SHOWN_PLACES = {
    "{log}": "LOG",
    "{oracles}": "tests/validation/data",
    "{folder}/": "",
    "{folder}": "FOLDER",
}
"""What the page shows for the places in these commands."""
MODELS: Mapping[str, tuple[str, str, str]] = {
    "evaluate": ("pentarch.results", "Evaluation", "One document."),
    "compare": (
        "pentarch.results", "Evaluation", "A list, one document per system, each as that of "
        "[`evaluate`](#pentarch-evaluate).",
    ),
    "search": ("pentarch.results", "StudyResult", "One document."),
}  # fmt: skip
"""Commands whose JSON is a model: module, class, what is printed."""
CHECKED: Mapping[str, tuple[str, ...]] = {
    "evaluate": ("evaluate", "llama-3-8b", "edge_soc"),
    "search": (
        "search", "edge-soc", "--trials", "4", "--strategy", "random", "--batch", "4",
        "--log", "{folder}/checked.sqlite",
    ),
}  # fmt: skip
"""Commands that must print the keys of their model."""


def main(arguments: Sequence[str]) -> int:
    """Write or check the pages; return the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/reference/.")
    parser.add_argument("--check", action="store_true", help="change nothing, report differences")
    check = parser.parse_args(arguments).check
    _describe_only_this_distribution()
    stale = []
    for name, text in pages().items():
        path = PAGES / name
        if check and (not path.exists() or path.read_text("utf-8") != text):
            stale.append(name)
        elif not check:
            path.write_text(text, "utf-8")
    if stale:
        sys.stderr.write(f"Out of date: {', '.join(stale)}. Run `python docs/make_reference.py`.\n")
    return 1 if stale else 0


def _describe_only_this_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    own = set(project["entry-points"]["pentarch"])
    others = {found.name for found in entry_points(group="pentarch")} - own
    os.environ["PENTARCH_DISABLE"] = ",".join(sorted(others))
    os.environ["COLUMNS"] = str(WIDTH)


def pages() -> dict[str, str]:
    """Return every reference page by file name."""
    made = {
        "commands.md": commands_page(),
        "python.md": python_page(),
        "hooks.md": hooks_page(),
        "yaml.md": yaml_page(),
        "figures.md": figures_page(),
    }
    return {name: _joined(text) for name, text in made.items()}


def _joined(lines: Iterator[str]) -> str:
    text = "\n".join(lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


# Commands ----------------------------------------------------------------------------------------


def commands_page() -> Iterator[str]:
    """Yield the page of commands: help texts and JSON keys."""
    from pentarch.cli.main import VERBS

    yield GENERATED
    yield "# Commands\n"
    yield (
        "Exit codes: 0 the command did its work (a search that finds nothing did its work), 1 a check that "
        "was asked for failed, 2 usage or input error, 130 interrupted. With `--json` a command prints one "
        "JSON document on stdout and nothing else there: numbers are in SI base units, ratios run from 0 to "
        "1, and what is unknown is `null`. What the figures mean: [figures](figures.md).\n"
    )
    yield f"## pentarch\n\n```text\n{_run(['--help']).strip()}\n```\n"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "run.sqlite"
        if any(verb.name == "report" for verb in VERBS):
            _run(["search", "edge-soc", "--trials", "4", "--strategy", "random", "--batch", "4",
                  "--no-report", "--json", "--log", str(log)])  # fmt: skip
        oracles = str(ROOT / "tests" / "validation" / "data")
        places = {"{log}": str(log), "{folder}": folder, "{oracles}": oracles}
        for verb in VERBS:
            yield f"## pentarch {verb.name}\n"
            yield f"```text\n{_run([verb.name, '--help']).strip()}\n```\n"
            yield from _json_of(verb.name, places)


def _run(arguments: Sequence[str]) -> str:
    """Return what a command prints; the progress of a search is dropped."""
    from pentarch.cli.main import main as run

    printed, problems = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(problems):
        code = run(arguments)
    if code:
        raise RuntimeError(
            f"pentarch {' '.join(arguments)} ended with {code}: {problems.getvalue()}"
        )
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines())


def _json_of(verb: str, places: Mapping[str, str]) -> Iterator[str]:
    if verb in MODELS:
        module, name, printed = MODELS[verb]
        yield f"JSON: {printed}\n"
        if verb == "compare":
            return
        described = list(keys(getattr(import_module(module), name)))
        if verb == "search":  # without every trial, which the log has
            described = [row for row in described if not row[0].startswith("trials")]
            described.append(
                ("report", "text or null", "Path of the report, where one was written.")
            )
        _compare(verb, described, places)
        yield "| key | type | meaning |\n|---|---|---|"
        for path, kind, meaning in described:
            yield f"| `{path}` | {kind} | {meaning} |"
    elif verb == "bench":
        from pentarch.evaluate.bench import DESCRIPTIONS

        yield "JSON: one document; `descriptions` repeats this table.\n\n| key | meaning |\n|---|---|"
        for key, about in DESCRIPTIONS.items():
            yield f"| `{key}` | {about} |"
    elif verb in EXAMPLES:
        yield "JSON keys, for example:\n\n| command | keys |\n|---|---|"
        for words in EXAMPLES[verb]:
            document = json.loads(_run([*(_placed(word, places) for word in words), "--json"]))
            shown = _placed(" ".join(words), SHOWN_PLACES)
            yield f"| `pentarch {shown} --json` | {_top_keys(document)} |"
    else:
        yield NOT_DESCRIBED
    yield ""


def _compare(verb: str, described: list[tuple[str, str, str]], places: Mapping[str, str]) -> None:
    """Raise when a command prints other keys than its page describes."""
    words = [_placed(word, places) for word in CHECKED[verb]]
    printed = set(json.loads(_run([*words, "--json"])))
    listed = {re.split(r"[.\[]", path)[0] for path, _, _ in described}
    if printed != listed:
        raise ValueError(
            f"`pentarch {verb} --json` prints other keys than MODELS says: {sorted(printed ^ listed)}"
        )


def _placed(word: str, places: Mapping[str, str]) -> str:
    for name, path in places.items():
        word = word.replace(name, path)
    return word


def _top_keys(document: Any) -> str:
    """Return the keys of a document, with those of the objects in its lists."""
    if isinstance(document, list):
        return "list of " + _top_keys(document[0])
    shown = []
    for key, value in document.items():
        is_list = isinstance(value, list) and value and isinstance(value[0], dict)
        inner = ", ".join(f"`{name}`" for name in value[0]) if is_list else ""
        shown.append(f"`{key}`" + (f" (list of {inner})" if inner else ""))
    return ", ".join(shown)


# Python ------------------------------------------------------------------------------------------


def python_page() -> Iterator[str]:
    """Yield the page of public names."""
    import pentarch

    yield GENERATED
    yield "# Python\n"
    yield (
        "`import pentarch as pa` loads nothing; each name is imported on first use. Whatever is not on this "
        "page or under [hooks](hooks.md) may change without notice.\n"
    )
    homes = import_module("pentarch._facade").HOMES
    found = {name: getattr(import_module(homes[name]), name) for name in pentarch.__all__}
    functions = {name: one for name, one in found.items() if inspect.isfunction(one)}
    models = {name: one for name, one in found.items() if _is_model(one)}
    others = {
        name: one for name, one in found.items() if name not in functions and name not in models
    }
    yield "## Functions\n"
    for name, function in functions.items():
        yield f"### {name}\n\n```python\n{signature(function)}\n```\n\n{docstring(function)}\n"
    yield "## Data\n"
    yield "Frozen pydantic models: all arguments are keywords, and `replace(**changes)` makes another.\n"
    yield "| name | what | fields |\n|---|---|---|"
    for name, model in models.items():
        names = ", ".join(f"`{field}`" for field in model.model_fields)
        yield f"| `{name}` | {first_line(model)} | {names} |"
    yield "\n## Other names\n\n| name | what |\n|---|---|"
    for name, other in others.items():
        about = first_line(other) if inspect.isclass(other) else attribute_line(homes[name], name)
        yield f"| `{name}` | {about} |"


def _is_model(one: Any) -> bool:
    return inspect.isclass(one) and issubclass(one, BaseModel)


# Hooks -------------------------------------------------------------------------------------------


def hooks_page() -> Iterator[str]:
    """Yield the page of hooks and of the classes that they hand over."""
    from pentarch import hookspecs
    from pentarch.contracts import backend, catalog, metric, partitioner, workload_family
    from pentarch.contracts import report_section as section

    yield GENERATED
    yield "# Hooks and contracts\n"
    yield (inspect.getdoc(hookspecs) or "") + "\n"
    yield "A plug-in is an entry point of the group `pentarch` that names a module with some of these hooks:\n"
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction):
        yield f"## {name}\n\n```python\n{signature(hook)}\n```\n\n{docstring(hook)}\n"
    yield "## Contracts\n\nThe classes that hooks hand over, and what their methods get and give.\n"
    contracts = (
        backend.Backend, partitioner.Partitioner, workload_family.WorkloadFamily, metric.Metric,
        section.ReportSection, catalog.Catalog, backend.RowRequest, backend.RowCosts,
        backend.SegmentRequest, backend.SegmentCosts, partitioner.PartitionRequest,
        partitioner.Coster, partitioner.PlanCost,
    )  # fmt: skip
    for contract in contracts:
        yield f"### {contract.__name__}\n\n`{contract.__module__}`\n\n{docstring(contract)}\n"
        yield from attributes(contract)
        for name, method in vars(contract).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                yield f"\n```python\n{signature(method)}\n```\n\n{docstring(method)}\n"


# YAML --------------------------------------------------------------------------------------------


def yaml_page() -> Iterator[str]:
    """Yield the page of what users write in YAML."""
    from pentarch.catalog import default_library
    from pentarch.hardware.device import Device
    from pentarch.hardware.machine import Provenance
    from pentarch.hardware.runtime import Runtime
    from pentarch.hardware.system import System
    from pentarch.search import distributions
    from pentarch.search.space import SamplerSettings, Space
    from pentarch.targets import Economics, Targets
    from pentarch.workload.query import Precisions, Query

    yield GENERATED
    yield "# YAML\n"
    yield (
        "A file begins with `kind:` and `about:`; its stem is its name. Unknown keys and keys that occur twice "
        "are errors that name the line. Where the type says *or text*, a number can carry a unit with a prefix: "
        "`16 MiB`, `3.35 TB/s`, `1.2 GHz`. A field that may be left empty is unknown then, never 0.\n"
    )
    yield "## Space\n\n`kind: space`\n"
    yield from field_table(Space)
    yield (
        "\n### Parameters of a search\n\nA parameter is a path and one of the following. With `when` it exists only "
        "in designs whose other parameters have one of the values given: `hbm_stacks: {int: [1, 4], when: {memory: "
        "hbm3e}}`.\n"
    )
    for model in (distributions.Choice, distributions.IntRange, distributions.FloatRange):
        yield f"**{first_line(model)}**\n"
        yield from field_table(model)
        yield ""
    yield (
        "### Objectives\n\n`query_j` improves a figure in its usual direction; `-query_j` or `{maximize: query_j}` "
        "maximizes it. Names: [figures](figures.md).\n"
    )
    for title, model in (
        ("query", Query), ("precisions", Precisions), ("targets", Targets), ("economics", Economics),
        ("sampler", SamplerSettings),
    ):  # fmt: skip
        yield f"### Key {title}\n\n{first_line(model)}\n"
        yield from field_table(model)
        yield ""
    yield f"## System\n\n`kind: system`. {first_line(System)}\n"
    yield from field_table(System)
    yield f"\n## Runtime\n\n`kind: runtime`. {first_line(Runtime)}\n"
    yield from field_table(Runtime)
    yield from _kernels_and_calibrations()
    yield f"\n## Device\n\n`kind: device`, and `backend:` with the name of a back-end.\n\n{docstring(Device)}\n"
    yield from field_table(Device)
    for name, backend in sorted(default_library().registry.backends.items()):
        yield f"\n### Back-end {name}\n\n{backend.about}. In addition to the fields of every device:\n"
        yield from field_table(backend.device_model, without=Device)
    yield f"\n## Sources\n\nUnder `sources:`, by field. {first_line(Provenance)}\n"
    yield from field_table(Provenance)


def _kernels_and_calibrations() -> Iterator[str]:
    from pentarch.hardware.calibration import CalibratedParameter, Calibration
    from pentarch.hardware.kernel_set import CollectiveProtocol, KernelSet

    yield f"\n### Kernel sets\n\n{docstring(KernelSet)}\n"
    yield from field_table(KernelSet)
    yield f"\n**{first_line(CollectiveProtocol)}**\n"
    yield from field_table(CollectiveProtocol)
    yield f"\n## Calibration\n\n`kind: calibration`. {first_line(Calibration)}\n"
    yield from field_table(Calibration)
    yield f"\n**{first_line(CalibratedParameter)}**\n"
    yield from field_table(CalibratedParameter)


# Figures -----------------------------------------------------------------------------------------


def figures_page() -> Iterator[str]:
    """Yield the page of figures: name, unit, direction, meaning."""
    from pentarch.catalog import default_library
    from pentarch.contracts.figures import figure_unit, label_of
    from pentarch.results import Evaluation
    from pentarch.search.objectives import MORE_IS_BETTER, figure_names
    from pentarch.targets import Targets, conditions

    judged = {
        condition.figure: str(condition.target)
        for targets in (Targets(), Targets(w_basis="peak", usd_basis="bom"))
        for condition in conditions(targets)
    }
    yield GENERATED
    yield "# Figures\n"
    yield (
        "The numbers of an evaluation. Each can be an objective of a space under its name; *better* is the "
        "direction that an objective takes without a sign. What the words mean: "
        "[glossary](../explanation/glossary.md); the formulas: [cost model](../explanation/cost-model.md). A ratio "
        "runs from 0 to 1 in data and is shown in percent.\n"
    )
    yield "| figure | shown as | unit | better | judged by target | meaning |\n|---|---|---|---|---|---|"
    order = [path for path, _, _ in keys(Evaluation)]
    for name in sorted(figure_names(), key=order.index):
        meaning = next(text for path, _, text in keys(Evaluation) if path == name)
        unit = figure_unit(name).replace("%", "ratio")
        better = "more" if name in MORE_IS_BETTER else "less"
        yield f"| `{name}` | {label_of(name)} | {unit} | {better} | {judged.get(name, '')} | {meaning} |"
    metrics = default_library().registry.metrics
    for name in sorted(metrics):
        better = "more" if metrics[name].higher_is_better else "less"
        yield f"| `{name}` | {name} | {figure_unit(name)} | {better} |  | {one_line(metrics[name].about)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
