"""How many tokens each part of a workload processes in each phase of a query."""

from dataclasses import dataclass

from pentarch.errors import FieldError
from pentarch.graph.operators import Phase
from pentarch.workload.query import Query
from pentarch.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token counts of one query, per sequence.

    A decoder behind an encoder starts with one token of its own, whatever the encoder reads. An
    encoder processes everything at once; one behind a front end has as many tokens as that makes.
    """

    encoder_tokens: int
    """Tokens of the encoder in front of the decoder; 0 without one."""
    tokens: int
    """Tokens that the layers process in prefill."""
    context: int
    """Keys that the last of them sees."""
    first: int
    """Context of the first decode step."""
    last: int
    """Context of the last decode step; below `first` if there is none."""
    held: int
    """Tokens whose keys and values must fit."""

    @property
    def earlier(self) -> int:
        """Tokens whose keys and values are there before prefill."""
        return self.context - self.tokens

    @property
    def steps(self) -> int:
        """Decode steps."""
        return max(0, self.last - self.first + 1)


def lengths_of(workload: Workload, query: Query) -> Lengths:
    """Return the lengths of a query.

    Raises:
        FieldError: Options of the query contradict each other, or an encoder is asked to keep a
            prefix or to read its input in chunks.
    """
    query.check()
    if workload.generates and workload.encoder is None:
        return Lengths(
            encoder_tokens=0,
            tokens=query.prefill_tokens,
            context=query.prompt_tokens,
            first=query.prompt_tokens + 1,
            last=query.prompt_tokens + query.decode_steps,
            held=query.last_context + query.draft_tokens,
        )
    _check_whole(workload, query)
    encoder = workload if workload.encoder is None else workload.encoder
    read = query.prompt_tokens if encoder.frontend is None else encoder.frontend.tokens
    if workload.encoder is not None:
        return Lengths(
            encoder_tokens=read, tokens=1, context=1, first=2,
            last=query.output_tokens if workload.generates else 1,
            held=1 + query.output_tokens + query.draft_tokens,
        )  # fmt: skip
    return Lengths(encoder_tokens=0, tokens=read, context=read, first=1, last=0, held=0)


def _check_whole(workload: Workload, query: Query) -> None:
    """Raise a `FieldError` if a query wants an encoder to read its input in parts."""
    for path, found, expected in (
        ("prefix_tokens", query.prefix_tokens, "0"),
        ("chunk_tokens", query.chunk_tokens, "none"),
    ):
        if found:
            raise FieldError(
                where="query",
                path=path,
                problem=f"found {found}",
                expected=f"{expected}: {workload.name} reads its whole input at once",
            )


def check_generates(workload: Workload) -> None:
    """Raise a `FieldError` if `workload` has no decode phase."""
    if not workload.generates:
        raise FieldError(
            where=workload.name,
            path="output_tokens",
            problem="the model makes no tokens one after another, and has no decode phase",
            expected=f"1 output token: all of its work is in the phase {Phase.PREFILL.value!r}",
        )
