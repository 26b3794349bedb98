from pathlib import Path
from typing import get_args

import pytest

from foremask.errors import FieldInvalid, ModelUnavailable
from foremask.weights.catalogue import (
    ISNET,
    ModelSpec,
    NetworkName,
    catalogue,
    model_path,
    sha256_of,
    spec_of,
)
from foremask.weights.pull import pull


def test_weights_that_are_not_there_are_named_with_what_to_do(tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    with pytest.raises(ModelUnavailable, match=r"own\.onnx"):
        model_path(tmp_path, own)
    own.write_bytes(b"onnx")
    assert model_path(tmp_path, own) == own
    with pytest.raises(ModelUnavailable, match="set FOREMASK_MODEL_DIR"):
        pull(own)
    (tmp_path / ISNET.file_name).write_bytes(b"half")
    with pytest.raises(ModelUnavailable, match="foremask models pull"):
        model_path(tmp_path)


def test_a_side_car_says_how_an_own_model_wants_its_picture(tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    assert spec_of(own) == ISNET.spec
    side_car = tmp_path / "own.onnx.json"
    side_car.write_text('{"size_px": 512, "std": [0.229, 0.224, 0.225], "sigmoid": true}')
    assert spec_of(own) == ModelSpec(size_px=512, std=(0.229, 0.224, 0.225), sigmoid=True)
    side_car.write_text('{"size": 512}')
    with pytest.raises(ModelUnavailable, match="size"):
        spec_of(own)
    for std in ("[0, 1, 1]", "[1, -1, 1]", "[1, 1, 1e999]"):
        side_car.write_text(f'{{"std": {std}}}')
        with pytest.raises(ModelUnavailable, match=r"own\.onnx\.json.*std"):
            spec_of(own)


@pytest.mark.weights
def test_the_pulled_weights_are_the_pinned_ones() -> None:
    assert sha256_of(model_path()) == ISNET.sha256


def test_an_operators_network_has_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "hats.onnx.json").write_text('{"size_px": 512}')
    with pytest.raises(ModelUnavailable, match=r"put hats\.onnx there, beside its side car"):
        model_path(tmp_path, network="hats")
    (tmp_path / "hats.onnx").write_bytes(b"onnx")
    assert model_path(tmp_path, network="hats") == tmp_path / "hats.onnx"
    assert spec_of(tmp_path / "hats.onnx") == ModelSpec(size_px=512)


@pytest.mark.parametrize("name", ["u2met", "../hats", "", "a/b", "hats.onnx.json"])
def test_a_name_that_nobody_has_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "hats.onnx.json").write_text("{}")
    with pytest.raises(FieldInvalid, match=r"no network is named .*`foremask models` lists them"):
        model_path(tmp_path / "models", network=name)


def test_the_catalogue_says_of_each_network_what_somebody_needs_to_choose_it() -> None:
    """The hashes of files that never were here are those that others publish: docs/models.md."""
    assert tuple(catalogue()) == get_args(NetworkName.__value__)
    for model in catalogue().values():
        assert model.can_be_pulled
        assert model.purpose
        assert model.code is not None
        assert model.weights is not None
        assert all(url.startswith("https://") for url in model.urls)


def test_a_pulled_file_needs_no_side_car(tmp_path: Path) -> None:
    u2netp = catalogue()["u2netp"]
    path = tmp_path / u2netp.file_name
    path.write_bytes(b"another network of this name")
    assert spec_of(path) == ISNET.spec
    with path.open("wb") as file:
        file.truncate(u2netp.size_bytes)
    assert spec_of(path).size_px == 320
