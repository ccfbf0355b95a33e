"""Workload graphs as JSON and GraphML text, and back; as DOT text for Graphviz.

JSON and GraphML come from networkx's own writers, so that any tool that reads them can show the
graph. GraphML knows no tuples: there a tensor's shape is text such as `1024x4096`.
"""

import json
from typing import Any

import networkx as nx

from pentarch.errors import InputError
from pentarch.graph.drawing import COLORS, frame_of, shape_of
from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.operators import Operator
from pentarch.units import show


def as_document(graph: WorkloadGraph) -> dict[str, Any]:
    """Return the graph as node-link data with the keys `graph`, `nodes` and `edges`.

    Nodes carry the operator's fields, its `flops` and `parameters` per execution and sequence, and
    their name also as `id`; edges carry `source`, `target`, `shape`, `format` and `bytes`.
    """
    document: dict[str, Any] = nx.node_link_data(graph.networkx, edges="edges")
    for edge in document["edges"]:
        edge["shape"] = list(edge["shape"])
    return document


def to_json(graph: WorkloadGraph) -> str:
    """Return the graph as JSON text (see `as_document`)."""
    return json.dumps(as_document(graph), indent=1, allow_nan=False) + "\n"


def from_json(text: str) -> WorkloadGraph:
    """Return the graph that `to_json` wrote.

    Raises:
        InputError: The text is no JSON, or no graph of operators and tensors.
    """
    try:
        document = json.loads(text)
        graph = nx.node_link_graph(document, edges="edges", directed=True, multigraph=False)
    except json.JSONDecodeError as error:
        raise InputError(f"line {error.lineno}: {error.msg}. Correct the JSON there.") from None
    except (nx.NetworkXError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"The JSON is no node-link graph ({error!r}). Expected what `to_json` writes."
        ) from None
    return WorkloadGraph.from_networkx(graph)


def to_graphml(graph: WorkloadGraph) -> str:
    """Return the graph as GraphML text."""
    plain: nx.DiGraph[str] = nx.DiGraph(**graph.networkx.graph)
    plain.add_nodes_from(graph.networkx.nodes(data=True))
    plain.add_edges_from(
        (source, target, {**values, "shape": "x".join(str(size) for size in values["shape"])})
        for source, target, values in graph.networkx.edges(data=True)
    )
    return "\n".join(nx.generate_graphml(plain, named_key_ids=True)) + "\n"


def from_graphml(text: str) -> WorkloadGraph:
    """Return the graph that `to_graphml` wrote.

    Raises:
        InputError: The text is no GraphML, or no graph of operators and tensors.
    """
    from xml.etree.ElementTree import ParseError

    try:
        graph = nx.parse_graphml(text)
    except ParseError as error:
        raise InputError(f"{error}. Expected GraphML, as `to_graphml` writes it.") from None
    except nx.NetworkXError as error:
        raise InputError(f"{error}. Expected GraphML, as `to_graphml` writes it.") from None
    for source, target, values in graph.edges(data=True):
        try:
            values["shape"] = tuple(int(size) for size in str(values["shape"]).split("x"))
        except (KeyError, ValueError):
            raise InputError(
                f"Edge {source!r} to {target!r} has the shape {values.get('shape')!r}. "
                "Expected sizes such as 1024x4096."
            ) from None
    return WorkloadGraph.from_networkx(graph)


def to_dot(graph: WorkloadGraph) -> str:
    """Return the graph as DOT text: a cluster for each layer or group of folded layers."""
    lines = [
        f"digraph {_quoted(graph.workload)} {{",
        f"  label={_quoted(f'{graph.workload}, {graph.phase}, context {graph.context}')};",
        '  node [shape=box, style="rounded,filled", fontname="monospace", fontsize=11];',
        '  edge [fontname="monospace", fontsize=9];',
    ]
    framed: dict[tuple[str, int | None] | None, list[Operator]] = {}
    for operator in graph.operators:
        framed.setdefault(frame_of(operator), []).append(operator)
    for number, (frame, operators) in enumerate(framed.items()):
        if frame is not None:
            group, index = frame
            repeat = max(operator.repeat for operator in operators)
            label = f"{group}, {repeat} layers" if index is None else f"{group} {index}"
            lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(label)};"]
        lines += [_dot_node(operator, "    " if frame else "  ") for operator in operators]
        if frame is not None:
            lines.append("  }")
    for source, target, tensor in graph.edges:
        shape = "x".join(str(size) for size in tensor.shape)
        label = f"{shape} {tensor.format}\n{show(tensor.bytes, 'B')}"
        lines.append(f"  {_quoted(source)} -> {_quoted(target)} [label={_quoted(label)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_node(operator: Operator, indent: str) -> str:
    name = operator.name if operator.repeat == 1 else f"{operator.name} x{operator.repeat}"
    fill, outline = COLORS[operator.kind]
    label = _quoted(f"{name}\n{shape_of(operator)}")
    return (
        f'{indent}{_quoted(operator.name)} [label={label}, fillcolor="{fill}", color="{outline}"];'
    )


def _quoted(text: str) -> str:
    """Return text as a DOT string; line ends become the escape for a new centered line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
