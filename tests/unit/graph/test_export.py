import json
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from pentarch.errors import InputError
from pentarch.graph.build import build_graph
from pentarch.graph.export import (
    as_document,
    from_graphml,
    from_json,
    to_dot,
    to_graphml,
    to_json,
)
from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.operators import Phase, Vector
from pentarch.workload.query import Precisions, Query

FORMATS = {"json": (to_json, from_json), "graphml": (to_graphml, from_graphml)}


@pytest.fixture(scope="module")
def graph(make_llama: Any) -> WorkloadGraph:
    return build_graph(
        make_llama(experts=(8, 2, 32), windows=(16,)),
        phase=Phase.PREFILL,
        query=Query(prompt_tokens=24),
        precisions=Precisions(weights="int4_g128", kv="mxfp8"),
    )


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_graph_survives_a_round_trip(graph: WorkloadGraph, kind: str) -> None:
    write: Callable[[WorkloadGraph], str] = FORMATS[kind][0]
    read: Callable[[str], WorkloadGraph] = FORMATS[kind][1]
    again = read(write(graph))
    assert again.operators == graph.operators
    assert again.edges == graph.edges
    assert again.networkx.graph == graph.networkx.graph
    assert write(again) == write(graph)


def test_json_has_nodes_and_edges_with_work_and_bytes(graph: WorkloadGraph) -> None:
    document = json.loads(to_json(graph))
    assert document == as_document(graph)
    assert {"nodes", "edges", "graph"} <= set(document)
    head = next(node for node in document["nodes"] if node["id"] == "lm_head")
    assert (head["flops"], head["parameters"]) == (2 * 64 * 1000, 64 * 1000)
    edge = next(edge for edge in document["edges"] if edge["target"] == "sampling")
    assert (edge["source"], edge["shape"], edge["bytes"]) == ("lm_head", [1, 1000], 2000)


def test_graphml_is_well_formed_and_complete(graph: WorkloadGraph) -> None:
    root = ElementTree.fromstring(to_graphml(graph))
    space = "{http://graphml.graphdrawing.org/xmlns}"
    assert len(root.findall(f".//{space}node")) == len(graph.operators)
    assert len(root.findall(f".//{space}edge")) == len(graph.edges)


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (from_json, '{\n"nodes": ]', "line 2"),
        (from_json, '{"nodes": 3}', "no node-link graph"),
        (from_json, "[]", "no node-link graph"),
        (from_graphml, "<graphml", "Expected GraphML"),
        (from_graphml, "<html/>", "Expected GraphML"),
    ],
)
def test_other_text_is_refused(read: Callable[[str], WorkloadGraph], text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(text)


def test_graphml_with_a_damaged_shape_names_the_edge(graph: WorkloadGraph) -> None:
    text = to_graphml(graph).replace(">1x1000<", ">1xmany<")
    with pytest.raises(InputError, match="Edge 'lm_head' to 'sampling' has the shape '1xmany'"):
        from_graphml(text)


def test_dot_has_every_operator_every_tensor_and_a_cluster_for_the_layers(
    graph: WorkloadGraph,
) -> None:
    text = to_dot(graph)
    nodes = re.findall(r'^ +"([^"]+)" \[label=.*fillcolor', text, re.MULTILINE)
    assert sorted(nodes) == sorted(operator.name for operator in graph.operators)
    arrows = re.findall(r'^  "([^"]+)" -> "([^"]+)" \[label="(\S+) ', text, re.MULTILINE)
    assert sorted(arrows) == sorted(
        (source, target, "x".join(map(str, tensor.shape))) for source, target, tensor in graph.edges
    )
    assert text.count("subgraph cluster_") == 1
    assert 'label="group0, 2 layers"' in text
    assert text.count("{") == text.count("}")


def test_dot_escapes_quotes_backslashes_and_line_ends() -> None:
    name = 'a "b" \\ c\nd'
    odd = WorkloadGraph.from_operators(
        [Vector(name=name, function="copy", values_in=1, values_out=1, format="bf16",
                out_format="bf16")],
        [], workload=name, phase=Phase.DECODE, tokens=1, context=1,
    )  # fmt: skip
    lines = to_dot(odd).splitlines()
    assert lines[0] == r'digraph "a \"b\" \\ c\nd" {'
    # every quote that is not escaped opens or closes a string
    assert all(len(re.findall(r'(?<!\\)(?:\\\\)*"', line)) % 2 == 0 for line in lines)
