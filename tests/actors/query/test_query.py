"""The options of a search: one declaration, and weights that are exact decimals."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lookalike.actors.query.query import MAX_WEIGHT, Query, SearchOptions, in_bits, in_hundredths


class Extended(SearchOptions):
    """What HTTP does: the options and something that must not travel."""

    image: str = ""


@given(st.integers(0, 100 * MAX_WEIGHT))
def test_search_options_take_every_weight_of_two_decimals(hundredths: int) -> None:
    weight = float(f"{hundredths // 100}.{hundredths % 100:02d}")
    options = SearchOptions(weights={"colour": weight})
    assert in_hundredths(options.weights["colour"]) == hundredths
    assert in_bits(hundredths) == weight


@given(st.integers(0, 1000 * MAX_WEIGHT).filter(lambda thousandths: thousandths % 10))
def test_search_options_refuse_a_third_decimal_and_say_so(thousandths: int) -> None:
    with pytest.raises(ValidationError, match="two decimals"):
        SearchOptions(weights={"colour": thousandths / 1000})


@pytest.mark.parametrize("weight", [-0.01, 10.01, math.nan, math.inf, True, "1", None, 10**400])
def test_search_options_refuse_other_weights(weight: object) -> None:
    with pytest.raises(ValidationError):
        SearchOptions.model_validate({"weights": {"colour": weight}})


def test_search_options_plain_drops_what_a_subclass_adds() -> None:
    filters = [{"field": "group", "in": ["Shirts"]}]
    given = Extended.model_validate({"image": "x" * 1000, "count": 3, "filters": filters, "collapse": True})
    plain = given.plain()
    assert type(plain) is SearchOptions
    assert plain == SearchOptions.model_validate({"count": 3, "filters": filters, "collapse": True})
    assert b"xxx" not in pickle.dumps(plain)


def test_query_arrives_as_it_was_sent() -> None:
    options = SearchOptions.model_validate({"count": 3, "filters": [{"field": "price", "lt": 5}], "weights": {"a": 1}})
    query = Query(options, (100,), None, "a/1")
    assert pickle.loads(pickle.dumps(query)) == query
