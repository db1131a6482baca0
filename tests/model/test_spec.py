"""What a spec may say, how its file is read, and what identifies the codes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.models import COLOUR, OUTLINE, tiny_model

from lookalike.errors import BadModel
from lookalike.model.spec import MAX_SPEC_BYTES, ModelSpec, PoolSource, parse_source

FIELDS: dict[str, Any] = json.loads(tiny_model().spec.model_dump_json())
PATH = Path("model.json")


def as_file(**changes: Any) -> bytes:
    return json.dumps(FIELDS | changes).encode()


def test_model_spec_counts_the_words_of_each_part() -> None:
    spec = tiny_model().spec
    assert (spec.short_words, spec.long_words, spec.component_words) == (1, 4, (1, 3))
    assert spec.weights == (100, 250)
    assert spec.layer_sources == ("conv2@2x2",)


def test_model_spec_reads_what_it_wrote() -> None:
    spec = tiny_model().spec
    assert ModelSpec.parse(spec.model_dump_json(indent=2).encode(), PATH) == spec


def test_model_spec_digest_changes_with_what_makes_the_codes_and_only_then() -> None:
    spec = tiny_model().spec
    assert spec.digest() == tiny_model().spec.digest()
    reweighted = (OUTLINE.model_copy(update={"weight": 1}), COLOUR)
    same: list[dict[str, Any]] = [{"name": "other"}, {"version": "2"}, {"components": reweighted}]
    for changes in same:
        assert spec.model_copy(update=changes).digest() == spec.digest()
    others: list[dict[str, Any]] = [
        {"input_px": 64},
        {"short_bits": 128},
        {"width": 0.5},
        {"backbone": "googlenet"},
        {"components": (COLOUR, OUTLINE)},
        {"arrays_sha256": "0" * 64},
    ]
    for changes in others:
        assert spec.model_copy(update=changes).digest() != spec.digest()
    assert tiny_model(1).spec.digest() != spec.digest()


def test_model_spec_digest_is_that_of_version_1() -> None:
    """Stores keep it: were it another one, they would have to be encoded again."""
    spec = ModelSpec.model_validate(FIELDS | {"arrays_sha256": "0" * 64})
    assert spec.digest() == "19a4b820c9cfc6415b9912d735f3e1e11b19940a8dd6ca9e07014898ba10b970"


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"format": 2},
        {"short_bits": 63},
        {"short_bits": 320},
        {"input_px": 0},
        {"width": 0},
        {"width": float("nan")},
        {"backbone": "resnet"},
        {"components": ()},
        {"components": (OUTLINE, OUTLINE)},
        {"components": ({"name": "a", "source": "conv2", "bits": 65, "weight": 1},)},
        {"components": ({"name": "a", "source": "conv2", "bits": 64, "weight": 1001},)},
        {"components": ({"name": "a", "source": "conv2", "bits": 64, "weight": 0.5},)},
        {"components": ({"name": "a", "source": "conv2@0x2", "bits": 64, "weight": 1},)},
        {"components": ({"name": "a", "source": "conv2", "bits": 8256, "weight": 1},)},
        {"name": "../escape"},
    ],
)
def test_model_spec_refuses_what_makes_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModelSpec.model_validate(tiny_model().spec.model_dump() | changes)


def test_model_spec_names_the_formats_it_reads_before_anything_else() -> None:
    with pytest.raises(BadModel, match=r"model\.json has format 2, but .* reads formats 1 to 1: .* newer"):
        ModelSpec.parse(as_file(format=2, unknown=1, components=None), PATH)


@pytest.mark.parametrize("number", [0, -1, 1.0, 1.5, True, "1", None, [1], 10**4000])
def test_model_spec_takes_only_whole_numbers_as_format(number: object) -> None:
    with pytest.raises(BadModel, match=r"model\.json.*format"):
        ModelSpec.parse(as_file(format=number), PATH)


def test_model_spec_needs_a_format() -> None:
    fields = {name: value for name, value in FIELDS.items() if name != "format"}
    with pytest.raises(BadModel, match=r"model\.json.*format"):
        ModelSpec.parse(json.dumps(fields).encode(), PATH)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(st.sampled_from(sorted(FIELDS)), JSON)
def test_model_spec_parse_gives_a_spec_or_bad_model_for_any_value(field: str, value: object) -> None:
    with contextlib.suppress(BadModel):
        spec = ModelSpec.parse(as_file(**{field: value}), PATH)
        assert ModelSpec.parse(spec.model_dump_json().encode(), PATH) == spec


@given(st.binary(max_size=50) | st.sampled_from([b"[" * 100_000, b'{"format":' + b"9" * 10_000 + b"}", b"null", b"[]"]))
def test_model_spec_parse_gives_bad_model_for_any_bytes(content: bytes) -> None:
    with pytest.raises(BadModel, match=r"^model\.json"):
        ModelSpec.parse(content, PATH)


def test_model_spec_load_reads_no_more_than_a_spec_can_have(tmp_path: Path) -> None:
    with (tmp_path / "model.json").open("wb") as file:
        file.truncate(1 << 40)  # sparse: it takes no room
    with pytest.raises(BadModel, match=rf"model\.json is larger than the {MAX_SPEC_BYTES:,} bytes"):
        ModelSpec.load(tmp_path)


def test_parse_source_reads_a_layer_and_its_grid() -> None:
    assert parse_source("conv8") == PoolSource("conv8", 1, 1)
    assert parse_source("inception_3a@2x3") == PoolSource("inception_3a", 2, 3)
    for wrong in ("", "conv8@", "conv8@2", "conv8@10x1", "conv8@2x2 "):
        with pytest.raises(ValueError, match="a source is written"):
            parse_source(wrong)
