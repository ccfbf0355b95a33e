"""What is asked: lengths, load and the number format of every role."""

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt

from pentarch.errors import FieldError, UnknownNameError
from pentarch.model import Model
from pentarch.workload.formats import NumberFormat, number_format
from pentarch.workload.routing import Routing, routing_skew


def _format_name(name: str) -> str:
    try:
        return number_format(name).name
    except UnknownNameError as error:
        raise ValueError(f"a number format. {error}") from None


FormatName = Annotated[str, AfterValidator(_format_name)]
"""Name of a number format, canonical after validation."""


Count = Annotated[int, Field(gt=0, le=10**9)]
"""Tokens or queries: at least 1, and far less than a thousand million in any real request."""

MOST_DRAFTS = 64
"""Draft tokens of one step at most: acceptance makes longer drafts useless."""


class Query(Model):
    """One request, and how many of them are in flight (definitions.md, Operating point)."""

    prompt_tokens: Count = 1024
    """Tokens of the prompt, P."""
    output_tokens: Count = 256
    """Tokens generated, T; the first comes out of prefill."""
    concurrency: Count = 1
    """Queries in flight, C: closed loop, each replaced when it ends."""
    prefix_tokens: NonNegativeInt = 0
    """Prompt tokens whose keys and values are already cached; fewer than the prompt's."""
    chunk_tokens: Count | None = None
    """Prompt tokens that one forward pass of prefill processes; `None` means all of them."""
    draft_tokens: Annotated[int, Field(ge=0, le=MOST_DRAFTS)] = 0
    """Tokens drafted ahead of each decode step, which verifies them all (speculative decoding)."""
    acceptance: Annotated[float, Field(ge=0, le=1)] | None = None
    """Chance that a drafted token is accepted if the one before it was; needed with drafts."""
    draft: str | None = None
    """Workload that makes the drafts, by name; `None` means `draft_share`."""
    draft_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Cost of one drafted token as a share of the model's own decode step; 0 is a draft that is
    looked up in the text before it."""
    kv_cache: bool = True
    """Whether keys and values are kept; without a cache every token costs a pass over all tokens."""
    routing: Routing = "uniform"
    """How tokens choose experts: `uniform`, `zipf(ALPHA)` or `worst`."""

    @property
    def tokens_per_step(self) -> float:
        """Tokens that one decode step makes on average: accepted drafts, and one of its own.

        No more than the query asks for: drafts beyond its end are thrown away. Otherwise
        (1 - a^(k + 1)) / (1 - a) for k drafts and an acceptance of a (Leviathan et al., Fast
        Inference from Transformers via Speculative Decoding, 2023, equation 1).
        """
        accepted = self.acceptance or 0.0
        made = float(sum(accepted**index for index in range(self.draft_tokens + 1)))
        return min(made, float(max(1, self.decode_steps)))

    @property
    def routing_skew(self) -> float:
        """Exponent of the experts' popularity: 0 uniform, infinite in the worst case."""
        return routing_skew(self.routing)

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens that prefill must process."""
        return self.prompt_tokens - self.prefix_tokens

    @property
    def decode_steps(self) -> int:
        """Decode steps of one query, T - 1."""
        return self.output_tokens - 1

    @property
    def last_context(self) -> int:
        """Tokens whose keys and values must fit, P + T; the last decode step sees one fewer."""
        return self.prompt_tokens + self.output_tokens

    def check(self) -> None:
        """Raise a `FieldError` if options contradict each other.

        Options are checked together where a query is used, not where it is made: a search changes
        them one at a time.
        """
        wrong = self._contradiction()
        if wrong is not None:
            path, problem, expected = wrong
            raise FieldError(where="query", path=path, problem=problem, expected=expected)

    def _contradiction(self) -> tuple[str, str, str] | None:
        if self.prefix_tokens >= self.prompt_tokens:
            return (
                "prefix_tokens",
                f"{self.prefix_tokens} cached tokens leave nothing of the prompt to process",
                f"fewer than the {self.prompt_tokens} prompt tokens",
            )
        if self.draft_tokens and self.acceptance is None:
            return (
                "acceptance",
                f"missing, with {self.draft_tokens} draft tokens a step",
                "the chance that a draft is accepted, from 0 to 1",
            )
        if self.draft is not None and self.draft_share:
            return (
                "draft_share",
                f"found {self.draft_share:g} beside the draft model {self.draft!r}",
                "one of the two: a workload that makes the drafts, or a share of a step",
            )
        if self.kv_cache:
            return None
        for path, found in (("prefix_tokens", self.prefix_tokens),
                            ("draft_tokens", self.draft_tokens),
                            ("chunk_tokens", self.chunk_tokens)):  # fmt: skip
            if found:
                return path, f"found {found}, without a KV cache", "nothing, or kv_cache: true"
        return None


class Precisions(Model):
    """Number format of every role."""

    weights: FormatName = "fp8"
    """GEMM weights."""
    activations: FormatName = "fp8"
    """GEMM inputs."""
    kv: FormatName = "fp8"
    """Stored keys and values."""
    accumulation: FormatName = "fp32"
    """On-chip accumulators and attention statistics."""
    spill: FormatName = "fp32"
    """Partial sums that leave their accumulator."""
    hidden: FormatName = "bf16"
    """Residual stream, norms, router, logits, embeddings: what quantization leaves at 16 bits."""
    lm_head: FormatName | None = None
    """Weights of the LM head; `None` means as `weights`."""
    experts: FormatName | None = None
    """Weights of routed experts; `None` means as `weights`."""

    def of(self, role: str) -> NumberFormat:
        """Return the number format of a role, those that stand for `weights` resolved."""
        name = getattr(self, role)
        return number_format(self.weights if name is None else name)
