import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foremask.options import Device
from foremask.vision.image import ArrayImage
from foremask.vision.network.compiled_networks import (
    HINTED_PX,
    KEPT_FILES,
    SIZES_PX,
    CompiledNetworks,
)
from foremask.vision.network.devices import network_at
from foremask.vision.network.finder import Click
from foremask.vision.network.network_protocol import NetworkOutput
from foremask.vision.network.opinions import CLOSER_PX
from foremask.vision.network.prompted import PromptedNetwork
from foremask.vision.network.session import Session
from foremask.vision.temporal.frame_hints import CROP_PX
from foremask.weights.catalogue import ISNET, compiled_dir_of
from tests.support import networks

pytestmark = pytest.mark.slow


@pytest.fixture
def redness(tmp_path: Path) -> Path:
    return networks.redness(tmp_path)


@pytest.fixture
def kept_in(tmp_path: Path) -> Path:
    return tmp_path / "compiled"


def spoil(weights: Path) -> None:
    """Make the weights unreadable for OpenVINO; their size and time stay."""
    before = weights.stat()
    weights.unlink()  # it may be a link to the real weights
    weights.write_bytes(bytes(before.st_size))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))


def answer(weights: Path, kept_in: Path) -> NetworkOutput:
    return Session(weights, kept_in=kept_in).infer(networks.half_red())


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit flipped": lambda kept: bytes([*kept[:-9], kept[-9] ^ 1, *kept[-8:]]),
    "truncated": lambda kept: kept[:-100],
    "other facts": lambda kept: kept.replace(b'_is_cut":false', b'_is_cut":true', 1),
    "empty": lambda kept: kept.partition(b"\n")[0] + b"\n",
    "headless": lambda _: b"\x00\xff" * 100_000,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_compiled_network_of_ours_is_compiled_anew(
    redness: Path, kept_in: Path, change: str
) -> None:
    first = answer(redness, kept_in)
    (path,) = kept_in.glob("*.compiled")
    whole = path.read_bytes()
    path.write_bytes(CHANGES[change](whole))
    assert path.read_bytes() != whole
    np.testing.assert_array_equal(answer(redness, kept_in).alpha, first.alpha)
    assert list(kept_in.glob("*.compiled")) == [path]
    spoil(redness)
    np.testing.assert_array_equal(answer(redness, kept_in).alpha, first.alpha)


def test_a_file_that_openvino_refuses_is_compiled_anew(redness: Path, kept_in: Path) -> None:
    first = answer(redness, kept_in)
    kept, size = CompiledNetworks(kept_in, redness), (networks.SIZE_PX, networks.SIZE_PX)
    found = kept.read(size)
    assert found is not None
    kept.keep(size, found[0], memoryview(b"not a network"))
    np.testing.assert_array_equal(answer(redness, kept_in).alpha, first.alpha)


def test_changed_weights_are_another_network(redness: Path, kept_in: Path) -> None:
    grey = answer(redness, kept_in).alpha[:, :24]
    networks.redness(redness.parent, bias=-5)
    changed = answer(redness, kept_in).alpha[:, :24]
    np.testing.assert_allclose(grey, 0.5, atol=0.02)
    assert changed.max() < 0.02


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_other_instructions_are_another_network(
    redness: Path, kept_in: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    answer(redness, kept_in)
    size = networks.SIZE_PX, networks.SIZE_PX
    assert CompiledNetworks(kept_in, redness).read(size) is not None
    monkeypatch.setenv(variable, "AVX2")
    assert CompiledNetworks(kept_in, redness).read(size) is None


def test_where_nothing_can_be_written_the_network_still_runs(redness: Path, kept_in: Path) -> None:
    """A file is where the directory should be: root, too, cannot write there."""
    kept_in.write_text("not a directory")
    np.testing.assert_allclose(answer(redness, kept_in).alpha[:, :24], 0.5, atol=0.02)
    assert kept_in.read_text() == "not a directory"


def test_of_many_compiled_networks_the_newest_are_kept(redness: Path, kept_in: Path) -> None:
    kept_in.mkdir()
    abandoned, young = kept_in / ".abandoned.part", kept_in / ".young.part"
    for part in (abandoned, young):
        part.touch()
    long_ago = time.time() - 3600
    os.utime(abandoned, (long_ago, long_ago))
    oldest: list[Path] = []
    for threads in range(1, KEPT_FILES + 2):
        Session(redness, threads=threads, kept_in=kept_in)
        oldest += [path for path in kept_in.glob("*.compiled") if path not in oldest]
        os.utime(oldest[-1], (long_ago + threads, long_ago + threads))
    assert set(kept_in.glob("*.compiled")) == set(oldest[1:])
    assert len(oldest[1:]) == KEPT_FILES
    assert (abandoned.exists(), young.exists()) == (False, True)


def test_a_network_of_ones_own_has_no_directory_beside_it(redness: Path) -> None:
    assert compiled_dir_of(redness) is None
    network_at.cache_clear()
    network_at(redness, Device())
    assert sorted(each.name for each in redness.parent.iterdir()) == [
        "redness.onnx",
        "redness.onnx.json",
    ]


def test_what_is_compiled_ahead_is_what_masking_runs() -> None:
    assert (ISNET.spec.size_px, CLOSER_PX) == SIZES_PX
    assert CROP_PX == HINTED_PX


@pytest.mark.weights
def test_answers_are_the_same_with_a_kept_network(tmp_path: Path) -> None:
    isnet = networks.isnet(tmp_path / "models")
    directory = compiled_dir_of(isnet)
    assert directory is not None
    image = ArrayImage(np.random.default_rng(7).integers(0, 256, (180, 320, 3), np.uint8))
    answers = []
    for _ in range(2):
        session = Session(isnet, kept_in=directory)
        answers.append([session.infer(image, (size_px, size_px)) for size_px in SIZES_PX])
        missing = ["896 px", "512 px", "prompted 512 px"]
        assert CompiledNetworks(directory, isnet).missing() == missing
    for mine, other, levels in zip(*answers, (3, 0), strict=True):
        np.testing.assert_array_equal(mine.alpha, other.alpha)
        assert len(mine.features) == levels
        for feature, same in zip(mine.features, other.features, strict=True):
            np.testing.assert_array_equal(feature, same)


@pytest.mark.weights
def test_a_kept_network_reads_prompts_as_the_compiled_one_without_the_weights(
    tmp_path: Path,
) -> None:
    isnet = networks.isnet(tmp_path / "models")
    directory = compiled_dir_of(isnet)
    assert directory is not None
    image = ArrayImage(np.random.default_rng(7).integers(0, 256, (180, 320, 3), np.uint8))
    earlier = np.zeros((90, 160), np.float32)
    earlier[30:60, 40:80] = 1
    clicks = [Click(0.7, 0.5, inside=True)]
    compiled = PromptedNetwork(isnet, kept_in=directory).find(image, earlier, clicks)
    assert "prompted 512 px" not in CompiledNetworks(directory, isnet).missing()
    spoil(isnet)
    kept = PromptedNetwork(isnet, kept_in=directory).find(image, earlier, clicks)
    np.testing.assert_array_equal(kept, compiled)
