"""What is asked: lengths, load and the number format of every role."""

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt

from pentarch.errors import UnknownNameError
from pentarch.model import Model
from pentarch.workload.formats import NumberFormat, number_format


def _format_name(name: str) -> str:
    try:
        return number_format(name).name
    except UnknownNameError as error:
        raise ValueError(f"a number format. {error}") from None


FormatName = Annotated[str, AfterValidator(_format_name)]
"""Name of a number format, canonical after validation."""


Count = Annotated[int, Field(gt=0, le=10**9)]
"""Tokens or queries: at least 1, and far less than a thousand million in any real request."""


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
