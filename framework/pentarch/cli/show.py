"""`pentarch show`: one thing in full."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pentarch.cli.output import JsonFlag, library, plain, print_json

if TYPE_CHECKING:
    from pentarch.catalog import Library
    from pentarch.registry import Provided
    from pentarch.workload.workload import Workload

Reader = Callable[["Library", str], dict[str, Any]]

_GROUPED = 10_000
"""Whole numbers from here on are printed in groups of three digits; years are not."""
_EXACT = 2.0**53
"""Below it every whole number has a double of its own."""


def show(
    name: Annotated[str, typer.Argument(help="A name of any kind, or the path of a file.")],
    kind: Annotated[
        str | None, typer.Option(help="Kind, where several things have the name.")
    ] = None,
    kv: Annotated[str, typer.Option(help="Format of the KV cache, for a workload.")] = "fp8",
    context: Annotated[
        int, typer.Option(min=1, help="Keys that a token sees, for a workload's FLOPs.")
    ] = 1024,
    as_json: JsonFlag = False,
) -> None:
    """Show one thing in full."""
    found = library()
    readers: dict[str, Reader] = {
        "workload": lambda library, name: _workload(library, name, kv, context),
        "device": _device,
        "system": lambda library, name: plain(library.system(name)),
        "runtime": lambda library, name: plain(library.runtime(name)),
        "space": lambda library, name: dict(library.space(name)[0].values),
        "backend": _backend,
        "partitioner": lambda library, name: _class(library, "partitioner", name),
        "workload family": lambda library, name: _class(library, "workload family", name),
        "metric": lambda library, name: _class(library, "metric", name),
        "report section": lambda library, name: _class(library, "report section", name),
        "plugin": _plugin,
    }
    chosen = _kind_of(found, name, kind, list(readers))
    document = {"kind": chosen, **readers[chosen](found, name)}
    if as_json:
        print_json(document)
    else:
        _print(document, nothing="none" if chosen == "workload" else "unknown")


def _kind_of(found: "Library", name: str, kind: str | None, known: list[str]) -> str:
    from pentarch.catalog import KINDS, is_path
    from pentarch.errors import InputError, UnknownNameError

    if kind is not None:
        if kind not in known:
            raise UnknownNameError(kind="kind", name=kind, known=known, hint="")
        return kind
    if is_path(name):
        return _kind_of_file(name)
    registry = found.registry
    named: dict[str, Mapping[str, Any]] = {entry: found.entries[entry] for entry in KINDS}
    named |= {
        "backend": registry.backends, "partitioner": registry.partitioners,
        "workload family": registry.families, "metric": registry.metrics,
        "report section": registry.sections,
        "plugin": {plugin.name: plugin for plugin in registry.plugins},
    }  # fmt: skip
    fitting = [entry for entry in known if name in named[entry]]
    if len(fitting) > 1:
        raise InputError(
            f"{name!r} is a {' and a '.join(fitting)}. Say which, for example "
            f"`pentarch show {name} --kind {fitting[0]!r}`."
        )
    if fitting:
        return fitting[0]
    if found.device_name(name) is not None:  # an alias, or another spelling
        return "device"
    if found.workload_name(name) is not None:
        return "workload"
    everything = {entry for names in named.values() for entry in names}
    raise registry.explain(
        UnknownNameError(kind="thing", name=name, known=everything, hint="See `pentarch list`.")
    )


def _kind_of_file(path: str) -> str:
    from pathlib import Path

    from pentarch.documents import read_document

    if Path(path).suffix not in (".yaml", ".yml"):
        return "workload"
    return str(read_document(Path(path), where=path).values.get("kind", "workload"))


def _workload(found: "Library", name: str, kv: str, context: int) -> dict[str, Any]:
    from pentarch.graph.flops import dense_flops_per_token, kv_bytes_per_token
    from pentarch.workload.parameters import parameters

    workload = found.workload(name)
    fields = plain(workload)
    prefill, decode = _phases(workload, kv, context)
    per_token = (
        prefill["useful_flops"] / prefill["tokens"] if decode is None else decode["useful_flops"]
    )
    return {
        "name": fields.pop("name"),
        "about": fields.pop("about"),
        "parameters": plain(parameters(workload)),
        "kv_format": kv,
        "kv_bytes_per_token": kv_bytes_per_token(workload, kv),
        "dense_flops_per_token": dense_flops_per_token(workload),
        "context_tokens": context,
        "useful_flops_per_token": per_token,
        "prefill": prefill,
        "decode": decode,
        **fields,
    }


def _phases(
    workload: "Workload", kv: str, context: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return prefill of a prompt of `context` tokens and the decode step that sees as many keys.

    Without a decode phase the second is `None`.
    """
    from pentarch.graph.build import build_graph
    from pentarch.graph.flops import dense_flops
    from pentarch.graph.operators import Phase
    from pentarch.model import load
    from pentarch.workload.query import Precisions, Query

    precisions = load(Precisions, {"kv": kv}, where="command line")
    query = load(Query, {"prompt_tokens": context, "output_tokens": 1}, where="command line")

    def figures(phase: Phase) -> dict[str, Any]:
        at = context if phase is Phase.DECODE else None
        graph = build_graph(
            workload, phase=phase, query=query, precisions=precisions, context=at
        )  # fmt: skip
        read = graph.compulsory_bytes
        return {
            "tokens": graph.tokens,
            "useful_flops": graph.flops,
            "compulsory_bytes": read,
            "flops_per_byte": graph.flops / read,
        }

    prefill = figures(Phase.PREFILL)
    prefill["dense_flops"] = dense_flops(workload, tokens=context)
    return prefill, figures(Phase.DECODE) if workload.generates else None


def _device(found: "Library", name: str) -> dict[str, Any]:
    from pentarch.hardware.view import View

    device = found.device(name)
    backend = found.backend_of(device)
    table = backend.machine(View(device))
    table.check()
    return {**plain(device), "backend": backend.name, "machine": plain(table.record(0))}


def _backend(found: "Library", name: str) -> dict[str, Any]:
    backend = found.registry.find(found.registry.backends, kind="backend", name=name)
    return {
        "name": backend.name,
        "about": backend.about,
        "plugin": found.registry.backends.plugins[name],
        "fidelity": backend.fidelity,
        "operators": sorted(backend.operators),
        "batch": backend.batch,
        "device_model": backend.device_model.model_json_schema(),
    }


def _plugin(found: "Library", name: str) -> dict[str, Any]:
    from pentarch.errors import UnknownNameError

    plugins = {plugin.name: plugin for plugin in found.registry.plugins}
    if name not in plugins:
        raise UnknownNameError(kind="plugin", name=name, known=plugins)
    provided = {
        kind: [entry for entry, owner in mapping.plugins.items() if owner == name]
        for kind, mapping in (
            ("backends", found.registry.backends),
            ("partitioners", found.registry.partitioners),
            ("families", found.registry.families),
            ("metrics", found.registry.metrics),
            ("sections", found.registry.sections),
        )
    }
    catalogs = {
        f"{kind}s": [entry.name for entry in found.names(kind) if entry.plugin == name]
        for kind in found.entries
    }
    return {**asdict(plugins[name]), "provides": {**provided, **catalogs}}


def _class(found: "Library", kind: str, name: str) -> dict[str, Any]:
    registry = found.registry
    provided_by_kind: dict[str, Provided[Any]] = {
        "partitioner": registry.partitioners,
        "workload family": registry.families,
        "metric": registry.metrics,
        "report section": registry.sections,
    }
    provided = provided_by_kind[kind]
    cls = type(registry.find(provided, kind=kind, name=name))
    about = getattr(cls, "about", None) or getattr(cls, "title", "")
    return {
        "name": name,
        "about": about,
        "plugin": provided.plugins[name],
        "class": f"{cls.__module__}.{cls.__qualname__}",
    }


def _print(document: Mapping[str, Any], indent: str = "", *, nothing: str) -> None:
    """Print a document as indented lines; `nothing` is what stands for a missing value."""
    width = max((len(key) for key in document), default=0)
    for key, value in document.items():
        if isinstance(value, Mapping) and value:
            print(f"{indent}{key}:")
            _print(value, indent + "  ", nothing=nothing)
        elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
            print(f"{indent}{key}:")
            for entry in value:
                print(f"{indent}  -")
                _print(entry, indent + "    ", nothing=nothing)
        else:
            print(f"{indent}{key:<{width}}  {_text(value, nothing)}")


def _text(value: object, nothing: str) -> str:
    if value is None:
        return nothing
    if isinstance(value, list):
        return ", ".join(_text(entry, nothing) for entry in value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        value = int(value)
    if isinstance(value, int) and abs(value) >= _GROUPED:
        return f"{value:,}"
    return str(value)
