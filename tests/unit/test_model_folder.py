"""The model folder and its spec, which need no TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from lookalike.errors import BadModel
from lookalike.model import colour, darknet19, folder
from lookalike.model.descriptor import Thresholds
from lookalike.model.fit import random_parameters
from lookalike.model.layers import truncated
from lookalike.model.spec import ComponentSpec, ModelSpec, Source, parse_source

CONV = ComponentSpec(name="outline", source="conv2@2x2", bits=64, weight=100)
COLOUR = ComponentSpec(name="colour", source="colour", bits=192, weight=250)


def tiny(seed=0, **changes):
    rng = np.random.default_rng(seed)
    parameters = random_parameters(truncated(darknet19.table(0.25), ["conv2"]), seed)
    outline = Thresholds(rng.integers(0, 64, 64).astype(np.int32), rng.random(64, np.float32))
    thresholds = (outline, colour.thermometer(192))
    short = np.arange(64, dtype=np.int32)
    arrays = folder.threshold_arrays(("outline", "colour"), thresholds, short)
    values = {
        "name": "tiny",
        "version": "1",
        "backbone": "darknet19",
        "width": 0.25,
        "input_px": 32,
        "short_bits": 64,
        "components": (CONV, COLOUR),
        "arrays_sha256": folder.arrays_sha256(arrays, parameters),
    }
    return folder.Model(ModelSpec(**values | changes), thresholds, short, parameters, "# tiny\n")


@pytest.fixture
def saved(tmp_path):
    folder.save(tiny(), tmp_path / "m")
    return tmp_path / "m"


def test_a_saved_model_is_loaded_the_same(saved):
    found, expected = folder.load(saved), tiny()
    assert found.spec == expected.spec == ModelSpec.load(saved)
    assert found.card == expected.card
    np.testing.assert_array_equal(found.short_positions, expected.short_positions)
    for one, other in zip(found.thresholds, expected.thresholds, strict=True):
        np.testing.assert_array_equal(one.columns, other.columns)
        np.testing.assert_array_equal(one.values, other.values)
    assert found.parameters.keys() == expected.parameters.keys()
    assert all(np.array_equal(found.parameters[k], v) for k, v in expected.parameters.items())
    assert sorted(p.name for p in saved.iterdir()) == ["card.md", "model.json", "parameters.npz", "thresholds.npz"]


def test_the_spec_says_the_words_of_each_part(saved):
    spec = ModelSpec.load(saved)
    assert (spec.short_words, spec.long_words, spec.component_words) == (1, 4, (1, 3))
    assert spec.weights == (100, 250)
    assert spec.layer_sources == ("conv2@2x2",)


def test_spec_and_folder_load_without_tensorflow(saved):
    program = (
        "import sys; from pathlib import Path; from lookalike.model.spec import ModelSpec\n"
        "from lookalike.model import encoder, fit, folder, weights\n"
        "ModelSpec.load(Path(sys.argv[1])); folder.load(Path(sys.argv[1]))\n"
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, saved], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_version_is_never_overwritten(saved):
    before = (saved / "model.json").read_bytes()
    with pytest.raises(FileExistsError, match="another version"):
        folder.save(tiny(1), saved)
    assert (saved / "model.json").read_bytes() == before


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lookalike.storage.local.sync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.save(tiny(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.json", "thresholds.npz", "parameters.npz", "card.md"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(BadModel, match=name):
        folder.load(saved)


@pytest.mark.parametrize("name", ["model.json", "thresholds.npz", "parameters.npz"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"text" * 50])
def test_a_damaged_file_is_named(saved, name, damage):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(damage(content))
    with pytest.raises(BadModel, match=name):
        folder.load(saved)


def test_one_changed_byte_in_the_arrays_is_noticed(saved):
    content = bytearray((saved / "parameters.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (saved / "parameters.npz").write_bytes(content)
    with pytest.raises(BadModel):
        folder.load(saved)


@pytest.mark.parametrize("name", ["thresholds.npz", "parameters.npz"])
def test_files_of_two_models_do_not_mix(saved, tmp_path, name):
    folder.save(tiny(1), tmp_path / "other")
    (tmp_path / "other" / name).replace(saved / name)
    with pytest.raises(BadModel, match="SHA-256"):
        folder.load(saved)


def test_arrays_are_never_unpickled(saved):
    np.savez(saved / "thresholds.npz", short_positions=np.array([{}], dtype=object))
    with pytest.raises(BadModel, match=r"thresholds\.npz"):
        folder.load(saved)


@pytest.mark.parametrize(("width", "reason"), [(0.5, r"conv1/kernel|conv1_bn"), (1.0, r"conv1/kernel|conv1_bn")])
def test_parameters_of_another_width_are_refused(tmp_path, width, reason):
    with pytest.raises(BadModel, match=reason):
        folder.save(tiny(width=width), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_layer_that_the_backbone_lacks_is_refused(saved):
    spec = json.loads((saved / "model.json").read_text())
    spec["components"][0]["source"] = "conv99"
    (saved / "model.json").write_text(json.dumps(spec))
    with pytest.raises(BadModel, match="conv99"):
        folder.load(saved)


def test_columns_beyond_the_features_are_refused(tmp_path):
    model = tiny()
    model.thresholds[0].columns[0] = 64  # conv2@2x2 at this width has 4 * 16 features, 0..63
    with pytest.raises(BadModel, match=r"outline/columns points outside 0\.\.63"):
        folder.save(model, tmp_path / "m")


def test_the_digest_changes_with_what_makes_the_codes_and_only_then():
    spec = tiny().spec
    assert spec.digest() == tiny().spec.digest()
    reweighted = (CONV.model_copy(update={"weight": 1}), COLOUR)
    for same in ({"name": "other"}, {"version": "2"}, {"components": reweighted}):
        assert spec.model_copy(update=same).digest() == spec.digest()
    for other in (
        {"input_px": 64},
        {"short_bits": 128},
        {"width": 0.5},
        {"backbone": "googlenet"},
        {"components": (COLOUR, CONV)},
        {"arrays_sha256": "0" * 64},
    ):
        assert spec.model_copy(update=other).digest() != spec.digest()
    assert tiny(1).spec.digest() != spec.digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"format": 2},
        {"short_bits": 63},
        {"short_bits": 320},
        {"input_px": 0},
        {"width": 0},
        {"backbone": "resnet"},
        {"components": ()},
        {"components": (CONV, CONV)},
        {"components": ({"name": "a", "source": "conv2", "bits": 65, "weight": 1},)},
        {"components": ({"name": "a", "source": "conv2", "bits": 64, "weight": 1001},)},
        {"components": ({"name": "a", "source": "conv2@0x2", "bits": 64, "weight": 1},)},
        {"components": ({"name": "a", "source": "conv2", "bits": 8256, "weight": 1},)},
        {"name": "../escape"},
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValidationError):
        ModelSpec.model_validate(tiny().spec.model_dump() | changes)


def test_sources_are_read():
    assert parse_source("conv8") == Source("conv8", 1, 1)
    assert parse_source("inception_3a@2x3") == Source("inception_3a", 2, 3)
    for wrong in ("", "conv8@", "conv8@2", "conv8@10x1", "conv8@2x2 "):
        with pytest.raises(ValueError, match="a source is written"):
            parse_source(wrong)
