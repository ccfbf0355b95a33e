"""A workload graph in the making: operators, edges, and the vector operators that recur."""

from dataclasses import dataclass, field

from pentarch.graph.graph import Edge
from pentarch.graph.operators import Gemm, Operator, Split, Tensor, Vector
from pentarch.workload.attention import Norm, NormKind
from pentarch.workload.formats import number_format
from pentarch.workload.query import Precisions


@dataclass(frozen=True, slots=True)
class Signal:
    """What an operator hands on: `rows` x `features` values per sequence."""

    producer: str
    """Operator that makes it."""
    rows: int
    """Tokens, or token-expert pairs."""
    features: int
    """Values per row."""
    format: str
    """Number format of the values."""

    @property
    def values(self) -> int:
        """Values per sequence."""
        return self.rows * self.features


@dataclass(frozen=True, slots=True)
class Scope:
    """Where operators are being added: their names and repeats."""

    layer: str = ""
    """Layer group; empty outside the layers."""
    repeat: int = 1
    """Equal layers that each operator stands for."""
    index: int | None = None
    """Layer within its group in an unfolded graph."""

    def name(self, operator: str) -> str:
        """Return the unique name of an operator of this scope."""
        prefix = f"{self.layer}." if self.layer else ""
        suffix = "" if self.index is None else f".{self.index}"
        return f"{prefix}{operator}{suffix}"


@dataclass(slots=True)
class Draft:
    """Operators and edges of one graph while it is put together."""

    tokens: int
    """Tokens processed per sequence."""
    context: int
    """Keys that the last of them sees."""
    precisions: Precisions
    """Number formats by role."""
    cached: bool = True
    """Whether keys and values are kept for later passes."""
    operators: list[Operator] = field(default_factory=list)
    """So far, each after its inputs."""
    edges: list[Edge] = field(default_factory=list)
    """So far."""

    def at(self, tokens: int, context: int) -> "Draft":
        """Return a draft of the same graph for a stack that processes other lengths."""
        return Draft(
            tokens=tokens, context=context, precisions=self.precisions, cached=self.cached,
            operators=self.operators, edges=self.edges,
        )  # fmt: skip

    def add(self, operator: Operator, *inputs: Signal) -> None:
        """Append `operator`, fed by `inputs`."""
        self.operators.append(operator)
        for signal in _by_producer(inputs):
            self.connect(operator.name, signal)

    def connect(self, consumer: str, signal: Signal) -> None:
        """Append the edge on which `signal` reaches `consumer`."""
        tensor = Tensor(
            shape=(signal.rows, signal.features),
            format=signal.format,
            bytes=signal.values * number_format(signal.format).bytes,
        )
        self.edges.append((signal.producer, consumer, tensor))

    def gemm(self, scope: Scope, name: str, source: Signal, *, n: int, split: Split,
             bias: bool = False) -> Signal:  # fmt: skip
        """Append a projection of `source` to `n` features and return its output."""
        operator = Gemm(
            name=scope.name(name), layer=scope.layer, repeat=scope.repeat, split=split,
            rows=source.rows, k=source.features, n=n, bias=bias, a_format=source.format,
            b_format=self.precisions.weights, out_format=self.precisions.hidden,
        )  # fmt: skip
        self.add(operator, source)
        return Signal(operator.name, source.rows, n, self.precisions.hidden)

    def norm(self, scope: Scope, name: str, source: Signal, norm: Norm | None) -> Signal:
        """Append a norm of `source`, if there is one, and return what comes out."""
        if norm is None:
            return source
        steps, sums = self.norm_work(norm)
        operator = Vector(
            name=scope.name(name), layer=scope.layer, repeat=scope.repeat, split=Split.NONE,
            function=norm.kind.value, values_in=source.values, values_out=source.values,
            elementwise=steps * source.values,
            reduce=sums * source.values, lines=source.rows, transcendental=source.rows,
            weights=norm.parameters(source.features),
            format=source.format, out_format=self.precisions.hidden,
        )  # fmt: skip
        self.add(operator, source)
        return Signal(operator.name, source.rows, source.features, self.precisions.hidden)

    @staticmethod
    def norm_work(norm: Norm) -> tuple[int, int]:
        """Return the elementwise operations and the reductions of a norm, per value.

        An RMS norm squares, sums, divides by the root and multiplies by the gain; a layer norm sums
        and subtracts the mean before that and may add a bias after it.
        """
        steps, sums = (2, 1) if norm.kind is NormKind.RMS else (3, 2)
        return steps + norm.gain + norm.bias, sums

    def residual(self, scope: Scope, name: str, *sources: Signal) -> Signal:
        """Append the sum of `sources` and return it."""
        first = sources[0]
        operator = Vector(
            name=scope.name(name), layer=scope.layer, repeat=scope.repeat, split=Split.NONE,
            function="add", values_in=len(sources) * first.values, values_out=first.values,
            elementwise=(len(sources) - 1) * first.values,
            format=self.precisions.hidden, out_format=self.precisions.hidden,
        )  # fmt: skip
        self.add(operator, *sources)
        return Signal(operator.name, first.rows, first.features, self.precisions.hidden)

    def converted(self, scope: Scope, name: str, source: Signal, *, to: str,
                  split: Split = Split.NONE, function: str = "quantize") -> Signal:  # fmt: skip
        """Append the conversion of `source` to a format, if it has another, and return the result.

        Scales are found at run time: the largest magnitude of each row, one multiplication and one
        rounding per value. What attention reads is `cast`: stacks convert it in the kernel that
        turns the queries or stores the keys, so that it is told apart from the inputs of products.
        """
        if source.format == to:
            return source
        operator = Vector(
            name=scope.name(name), layer=scope.layer, repeat=scope.repeat, split=split,
            function=function, values_in=source.values, values_out=source.values,
            elementwise=source.values, reduce=source.values, convert=source.values, lines=source.rows,
            format=source.format, out_format=to,
        )  # fmt: skip
        self.add(operator, source)
        return Signal(operator.name, source.rows, source.features, to)


def _by_producer(signals: tuple[Signal, ...]) -> list[Signal]:
    """Return one signal for each producer: a graph has one edge between two operators."""
    found: dict[str, Signal] = {}
    for signal in signals:
        other = found.get(signal.producer)
        if other is None:
            found[signal.producer] = signal
        elif other.rows == signal.rows:
            features = other.features + signal.features
            found[signal.producer] = Signal(other.producer, other.rows, features, other.format)
        else:
            values = other.values + signal.values
            found[signal.producer] = Signal(other.producer, 1, values, other.format)
    return list(found.values())
