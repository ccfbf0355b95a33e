"""What the configurations of all families have in common: strict values, unknown keys ignored."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """Raw configuration of one family.

    A `config.json` holds much that does not shape the model (dropout, token ids, library versions):
    keys without a field are ignored. A number in quotes, a fraction or a boolean is no count.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


Count = Annotated[int, Field(gt=0, le=10**9)]
"""A whole number of at least 1; a thousand million, far beyond any model, is the most."""
