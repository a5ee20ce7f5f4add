"""What all settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

MOST_SEED = 2**32 - 1
"""The largest seed that all generators of random numbers take."""


class Config(BaseModel):
    """Base of all configurations: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
