"""The rules of a row's fields that no type states."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from lookalike.ingest.attributes import MAX_GROUP_DEPTH, Attributes


def test_group_is_as_deep_as_a_shard_takes_and_no_deeper() -> None:
    deepest = "/".join("x" * MAX_GROUP_DEPTH)
    assert Attributes(group=f"/ {deepest}//").group == deepest
    with pytest.raises(ValidationError, match="at most 32"):
        Attributes(group=f"{deepest}/y")
