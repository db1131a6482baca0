"""What clients send and see derives from the tables of attributes and of search options."""

from __future__ import annotations

import inspect

import pytest
from pydantic import BaseModel, ValidationError

from lookalike.actors.query.query import SearchOptions
from lookalike.cluster.http.schema import ImageFields, SearchParams, SearchRequest, StoredImage
from lookalike.ingest.attributes import Attributes


@pytest.mark.parametrize("model", [ImageFields, StoredImage])
def test_images_have_every_attribute_and_declare_none_again(model: type[BaseModel]) -> None:
    assert set(Attributes.model_fields) < set(model.model_fields)
    assert not set(inspect.get_annotations(model)) & set(Attributes.model_fields)


@pytest.mark.parametrize("model", [SearchRequest, SearchParams])
def test_searches_have_every_option_with_its_default_and_declare_none_again(model: type[BaseModel]) -> None:
    for name, field in SearchOptions.model_fields.items():
        default = field.get_default(call_default_factory=True)
        assert model.model_fields[name].get_default(call_default_factory=True) == default
    assert not set(inspect.get_annotations(model)) & set(SearchOptions.model_fields)


@pytest.mark.parametrize("option", ["two_phase", "collapse", "verbose", "require_all"])
def test_flags_are_booleans_in_a_body_and_their_words_in_a_query_string(option: str) -> None:
    with pytest.raises(ValidationError, match="valid boolean"):
        SearchRequest.model_validate({"image_id": "a", option: "no"})
    assert getattr(SearchParams.model_validate({option: "false"}), option) is False
