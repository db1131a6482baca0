"""What is searched for: the options as a client gives them, and the query that travels to the shards.

Every option is declared here, once. HTTP derives its requests from `SearchOptions`, and a `Query` carries the options
as they are through the coordinator to the shard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lookalike.actors.query.filters import Filters

MAX_COUNT = 1000
DEFAULT_COUNT = 20
MAX_WEIGHT = 10
MAX_WEIGHTS = 64
HUNDREDTHS = 100
"""Weights and weighted distances are decimals outside and whole hundredths inside, so that sums are exact."""


def in_hundredths(weight: float) -> int:
    """Return a decimal weight as whole hundredths: 1.0 is 100."""
    return round(weight * HUNDREDTHS)


def in_bits(hundredths: int) -> float:
    """Return a weighted distance in bits; two decimals at most, and the double nearest to them."""
    return hundredths / HUNDREDTHS


def _check_decimals(weight: float) -> float:
    # 1.15 * 100 is 114.99999999999999; a third decimal is off by at least 0.1.
    if abs(weight * HUNDREDTHS - in_hundredths(weight)) > 1e-6:
        raise ValueError("a weight has at most two decimals, as in 1.25")
    return weight


Weight = Annotated[float, Field(ge=0, le=MAX_WEIGHT, strict=True, allow_inf_nan=False), AfterValidator(_check_decimals)]


class SearchOptions(BaseModel):
    """How to search."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Annotated[
        int, Field(ge=1, le=MAX_COUNT, strict=True, description=f"How many hits at most, 1 to {MAX_COUNT}.")
    ] = DEFAULT_COUNT
    filters: Filters = ()
    weights: Annotated[
        dict[str, Weight],
        Field(
            max_length=MAX_WEIGHTS,
            description="Weight per component in place of the model's own: 0.00 to 10.00, at most two decimals; "
            "1.0 counts every differing bit once.",
        ),
    ] = Field(default_factory=dict)
    two_phase: Annotated[
        bool, Field(strict=True, description="false: rank every image by its long code, exact but slower.")
    ] = True
    collapse: Annotated[bool, Field(strict=True, description="Only the best image of each listing.")] = False
    verbose: Annotated[bool, Field(strict=True, description="Add the distance per component.")] = False
    require_all: Annotated[
        bool, Field(strict=True, description="Fail with 503 rather than answer from some of the shards.")
    ] = False

    def plain(self) -> SearchOptions:
        """Return the options without what a subclass adds, such as a photo: what travels to the shards."""
        return SearchOptions.model_construct(**{name: getattr(self, name) for name in SearchOptions.model_fields})


class Descriptor(NamedTuple):
    """The codes of one photo.

    Attributes
    ----------
    short : ndarray of uint64, shape (short_words,)
    long : ndarray of uint64, shape (long_words,)
    """

    short: NDArray[np.uint64]
    long: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Query:
    """One search of one collection, ready for its shards.

    Attributes
    ----------
    options : SearchOptions
        As the client gave them.
    weights : tuple of int
        One per component, in hundredths: 100 counts every differing bit once.
    candidates : int or None
        How many rows pass phase one at least, ties included. None: single-phase, every row is ranked by its long code.
    target : str or Descriptor
        The id of a stored image, or the codes of a photo.
    codes : Descriptor or None
        Of the stored image that is the target, where they were looked up before.
    deadline : float
        Nobody waits for the answer after this time, in seconds of ``time.monotonic`` of the process that has the query.
    """

    options: SearchOptions
    weights: tuple[int, ...]
    candidates: int | None
    target: str | Descriptor
    codes: Descriptor | None = None
    deadline: float = math.inf

    @property
    def image_id(self) -> str | None:
        """The id of the stored image that is the target, or None."""
        return self.target if isinstance(self.target, str) else None

    @property
    def descriptor(self) -> Descriptor | None:
        """The codes to compare with; None: only the shard that holds the target knows them."""
        return self.codes if isinstance(self.target, str) else self.target
