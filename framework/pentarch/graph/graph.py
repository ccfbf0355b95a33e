"""The workload graph: operators as nodes and tensors as edges of a networkx directed graph.

The networkx graph is what people look at, cut and export; `operators` gives the same nodes as typed
models. Counts are per sequence, and an operator of a folded graph stands for `repeat` equal ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from pentarch.errors import FieldError, InputError, UnknownNameError
from pentarch.graph.operators import (
    Attention,
    Gather,
    Gemm,
    Operator,
    Phase,
    Tensor,
    Vector,
    operator_adapter,
)
from pentarch.model import field_error, load
from pentarch.workload.formats import number_format

if TYPE_CHECKING:  # networkx takes a fifth of a second to import; lists of plug-ins do without
    import networkx as nx

_DERIVED = frozenset(
    {
        "flops",
        "parameters",
        "experts_expected",
        "experts_worst",
        "rows_expected",
        "rows_worst",
        "dequantize",
    }
)
"""Node attributes that follow from the others: shown and exported, not read back."""

Edge = tuple[str, str, Tensor]
"""Producer, consumer and what passes between them."""


def visible_keys(
    *, first: int, last: int, window: int | None = None, chunk: int | None = None
) -> int:
    """Return the keys that causal queries at positions `first` to `last` see, summed.

    Args:
        first: Context of the first query: the keys it sees without a window, its own included.
        last: Context of the last query.
        window: Keys that a query sees at most.
        chunk: Tokens of the chunks that the sequence falls into, each of which sees itself only.

    Returns:
        The exact sum of min(context, window) over all contexts, or of the place within the chunk; 0
        if there are none.

    Examples:
        >>> visible_keys(first=1, last=4)
        10
        >>> visible_keys(first=1, last=4, window=2)
        7
        >>> visible_keys(first=1, last=4, chunk=3)
        7
    """
    if last < first:
        return 0
    if chunk is not None:
        return _chunked_keys(last, chunk) - _chunked_keys(first - 1, chunk)
    if window is None or window >= last:
        return (first + last) * (last - first + 1) // 2
    if window < first:
        return window * (last - first + 1)
    return visible_keys(first=first, last=window) + window * (last - window)


def _chunked_keys(last: int, chunk: int) -> int:
    """Return the keys that the queries 1 to `last` see inside their chunks, summed."""
    whole, rest = divmod(last, chunk)
    return whole * (chunk * (chunk + 1) // 2) + rest * (rest + 1) // 2


def keys_read(
    *, tokens: int, context: int, window: int | None = None, chunk: int | None = None
) -> int:
    """Return the keys that at least one of the last `tokens` queries of `context` sees."""
    if chunk is not None:
        return context - (context - tokens) // chunk * chunk
    return context if window is None else min(context, tokens + window - 1)


def attention_pairs(operator: Attention) -> int:
    """Return the query-key pairs per head and sequence that count: inside mask and window."""
    if not operator.causal:
        window = operator.context if operator.window is None else operator.window
        return operator.query_tokens * min(operator.context, window)
    first = operator.context - operator.query_tokens + 1
    return visible_keys(
        first=first, last=operator.context, window=operator.window, chunk=operator.chunk
    )


def attention_keys(operator: Attention) -> int:
    """Return the keys per sequence that at least one query sees: what is read."""
    return keys_read(
        tokens=operator.query_tokens,
        context=operator.context,
        window=operator.window,
        chunk=operator.chunk,
    )


def cached_values(operator: Attention) -> int:
    """Return the values that one key leaves in the KV cache."""
    if operator.cached_values is not None:
        return operator.cached_values
    values = 0 if operator.values_in_keys else operator.value_dim
    return operator.kv_heads * (operator.head_dim + values)


def operator_flops(operator: Operator) -> int:
    """Return the useful FLOPs of one execution and sequence: 2 per MAC of GEMM and attention."""
    if isinstance(operator, Gemm):
        visits = operator.experts_per_token if operator.experts else 1
        rows = operator.rows if operator.useful_rows is None else operator.useful_rows
        return 2 * rows * operator.k * operator.n * visits * operator.batch
    if isinstance(operator, Attention):
        widths = operator.useful_width or operator.head_dim + operator.value_dim
        return 2 * operator.heads * widths * attention_pairs(operator)
    return 0


def operator_parameters(operator: Operator) -> int:
    """Return the parameters that are counted at one operator; a tied one is counted elsewhere."""
    if isinstance(operator, Gemm):
        biases = operator.n - operator.unbiased if operator.bias else 0
        weights = 0 if operator.tied else operator.k * operator.n
        return max(1, operator.experts) * operator.batch * (weights + biases)
    if isinstance(operator, Attention):
        return operator.heads if operator.sinks else 0
    if isinstance(operator, Vector):
        return operator.weights
    if isinstance(operator, Gather) and not operator.tied:
        return operator.table
    return 0


def expert_routing(operator: Gemm) -> dict[str, float]:
    """Return how the tokens of one sequence meet experts, expected and at worst.

    Returns:
        `experts_expected`, distinct experts that uniform routing visits (definitions.md, MoE);
        `experts_worst`, the most that can be; `rows_expected`, rows of an expert on average;
        `rows_worst`, rows of an expert that every token chooses. Empty for a dense weight.
    """
    if not operator.experts:
        return {}
    share = min(1.0, operator.experts_per_token / operator.experts)
    return {
        "experts_expected": operator.experts * (1.0 - (1.0 - share) ** operator.rows),
        "experts_worst": min(operator.experts, operator.rows * operator.experts_per_token),
        "rows_expected": operator.rows * share,
        "rows_worst": operator.rows,
    }


@dataclass(frozen=True)
class WorkloadGraph:
    """One phase of a workload at one context, as a directed acyclic graph of operators."""

    networkx: "nx.DiGraph[str]"
    """Nodes are operator names with the operator's fields as attributes, and what follows from them:
    `flops` and `parameters`, how tokens meet experts (`expert_routing`), and of weights that are
    stored in another format than they are multiplied in, `dequantize`; edges carry
    `shape`, `format`, `bytes`. Frozen: edit a `copy()`, read it back with `from_networkx`."""
    operators: tuple[Operator, ...]
    """Every operator, in an order in which each comes after its inputs."""

    @classmethod
    def from_operators(
        cls,
        operators: Iterable[Operator],
        edges: Iterable[Edge],
        *,
        workload: str,
        phase: Phase,
        tokens: int,
        context: int,
    ) -> Self:
        """Return the graph of `operators`, which come after their inputs, and `edges`."""
        import networkx as nx

        ordered = tuple(operators)
        graph: nx.DiGraph[str] = nx.DiGraph(
            workload=workload, phase=phase.value, tokens=tokens, context=context
        )
        graph.add_nodes_from((operator.name, _attributes(operator)) for operator in ordered)
        graph.add_edges_from(
            (
                source,
                target,
                {"shape": tensor.shape, "format": tensor.format, "bytes": tensor.bytes},
            )
            for source, target, tensor in edges
        )
        return cls(networkx=nx.freeze(graph), operators=ordered)

    @classmethod
    def from_networkx(cls, graph: "nx.Graph[str]") -> Self:
        """Return the workload graph that a networkx graph with the same attributes describes.

        Raises:
            InputError: An attribute of the graph is missing, or it is not directed and acyclic.
            FieldError: A node or edge has attributes that make no operator or tensor.
        """
        import networkx as nx

        if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
            raise InputError(
                f"The graph is a {type(graph).__name__}. A dataflow graph is a networkx DiGraph."
            )
        missing = [
            key for key in ("workload", "phase", "tokens", "context") if key not in graph.graph
        ]
        if missing:
            raise InputError(
                f"The graph has no attribute {missing[0]!r}. Expected workload, phase, tokens and "
                "context, as a graph from `build_graph` has them."
            )
        operators = {name: _operator(name, values) for name, values in graph.nodes(data=True)}
        edges = [
            (source, target, _tensor(source, target, values))
            for source, target, values in graph.edges(data=True)
        ]
        try:
            order = list(nx.lexicographical_topological_sort(graph, key=_position(graph)))
        except nx.NetworkXUnfeasible:
            raise InputError("The graph has a cycle. A dataflow graph is acyclic.") from None
        return cls.from_operators(
            (operators[name] for name in order),
            edges,
            workload=str(graph.graph["workload"]),
            phase=_phase(graph.graph["phase"]),
            tokens=int(graph.graph["tokens"]),
            context=int(graph.graph["context"]),
        )

    @property
    def workload(self) -> str:
        """Name of the workload."""
        return str(self.networkx.graph["workload"])

    @property
    def phase(self) -> Phase:
        """Phase of the query."""
        return Phase(self.networkx.graph["phase"])

    @property
    def tokens(self) -> int:
        """Tokens processed per sequence."""
        return int(self.networkx.graph["tokens"])

    @property
    def context(self) -> int:
        """Keys per sequence that the last processed token sees, its own included."""
        return int(self.networkx.graph["context"])

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Producer, consumer and tensor of every edge."""
        return tuple(
            (source, target, _tensor(source, target, values))
            for source, target, values in self.networkx.edges(data=True)
        )

    def operator(self, name: str) -> Operator:
        """Return the operator called `name`.

        Raises:
            UnknownNameError: The graph has none.
        """
        for operator in self.operators:
            if operator.name == name:
                return operator
        raise UnknownNameError(
            kind="operator",
            name=name,
            known=[operator.name for operator in self.operators],
            hint=f"They are the operators of the {self.phase} graph of {self.workload}.",
        )

    @property
    def flops(self) -> int:
        """Useful FLOPs of all operators, repeats included."""
        return sum(operator.repeat * operator_flops(operator) for operator in self.operators)

    @property
    def parameters(self) -> int:
        """Parameters of all operators, repeats included, a tied table once."""
        return sum(operator.repeat * operator_parameters(operator) for operator in self.operators)

    @property
    def gemm_weight_bytes(self) -> float:
        """Bytes of all GEMM weights, all experts and a tied LM head included, biases left out."""
        return sum(
            operator.repeat
            * max(1, operator.experts)
            * operator.batch
            * operator.k
            * operator.n
            * number_format(operator.b_format).bytes
            for operator in self.operators
            if isinstance(operator, Gemm)
        )

    @property
    def compulsory_bytes(self) -> float:
        """Bytes that one step of one sequence must read: GEMM weights, keys and values.

        Of routed experts those count that uniform routing visits (definitions.md, MoE). Prefill
        reads no keys and values from the cache but writes them, which costs as much.
        """
        weights = sum(
            operator.repeat
            * (expert_routing(operator)["experts_expected"] if operator.experts else operator.batch)
            * operator.k
            * operator.n
            * number_format(operator.b_format).bytes
            for operator in self.operators
            if isinstance(operator, Gemm)
        )
        return weights + self.kv_bytes

    @property
    def kv_bytes(self) -> float:
        """Bytes of keys and values that one step reads per sequence."""
        return sum(
            operator.repeat
            * cached_values(operator)
            * attention_keys(operator)
            * number_format(operator.kv_format).bytes
            for operator in self.operators
            if isinstance(operator, Attention)
        )


def _attributes(operator: Operator) -> dict[str, Any]:
    values = {
        key: value.value if key in ("kind", "split") else value
        for key, value in operator.__dict__.items()
        if value is not None
    }
    values["flops"] = operator_flops(operator)
    values["parameters"] = operator_parameters(operator)
    if isinstance(operator, Gemm):
        values |= expert_routing(operator)
        if number_format(operator.b_format).native_only_as_weights:
            # Part of the GEMM's own work: weights pass the converter on their way to the engine.
            values["dequantize"] = f"{operator.b_format} to {operator.a_format}"
    return values


def _operator(name: str, attributes: dict[str, Any]) -> Operator:
    fields = {key: value for key, value in attributes.items() if key not in _DERIVED}
    try:
        operator = operator_adapter().validate_python(fields)
    except ValidationError as error:
        raise field_error(error, where=f"node {name!r}") from None
    if operator.name != name:
        raise FieldError(
            where=f"node {name!r}",
            path="name",
            problem=f"found {operator.name!r}",
            expected="the name of the node",
        )
    return operator


def _tensor(source: str, target: str, attributes: dict[str, Any]) -> Tensor:
    return load(Tensor, attributes, where=f"edge {source!r} to {target!r}")


def _phase(value: Any) -> Phase:
    try:
        return Phase(value)
    except ValueError:
        raise FieldError(
            where="graph",
            path="phase",
            problem=f"found {value!r}",
            expected="'prefill' or 'decode'",
        ) from None


def _position(graph: "nx.DiGraph[str]") -> Any:
    positions = {name: index for index, name in enumerate(graph.nodes)}
    return positions.__getitem__
