"""What the network said of a clip serves later runs over it, and changes no mask."""

import io
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foremask.options import Quality
from foremask.pipeline.network_masks import mask_images
from foremask.types import Alpha, Image
from foremask.vision.image import ArrayImage
from foremask.vision.network import kept_results
from foremask.vision.network.finder import Click, MaskFinder
from foremask.vision.network.kept_results import NotACacheError, open_file_store
from foremask.vision.network.network_cache import NetworkCache, Store
from foremask.vision.network.network_protocol import InputSize, NetworkOutput
from foremask.vision.stopping import StoppedError
from foremask.vision.temporal import appearance
from foremask.vision.temporal.frame_hints import Mark, read_hints
from foremask.vision.temporal.tier import TIERS
from tests.pipeline.stages.test_network_masks import shorten as shorten_windows
from tests.support.disks import disk_of
from tests.support.networks import Drawn
from tests.vision.temporal.test_guidance import Colours, apart

TIER = replace(
    TIERS[Quality.BALANCED], mask_area_px=160 * 90, flow_area_px=160 * 90, cropped_above=0.0
)
IMAGES = [ArrayImage(ArrayImage(apart(t)[0]).rgb(160, 90)) for t in range(30)]
PLACES = {id(image): number for number, image in enumerate(IMAGES)}
CLICK = {7: [Mark(0, True, 80 / 320, 84 / 180)]}  # 7 is no anchor
BOX = {7: [Mark(1, False, 40 / 320, 40 / 180, 80 / 320, 88 / 180)]}
BOTH = {7: [*CLICK[7], *BOX[7]]}
CLICKS = {**CLICK, 14: [Mark(1, False, 240 / 320, 98 / 180)]}


class Network(Drawn):
    any_size = True

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        self.asked.append(image)
        rgb = image.rgb(64, 64).astype(np.float32) / np.float32(255)
        red = np.clip((rgb[..., 0] - rgb[..., 1]) * np.float32(2.5), 0, 1)
        levels = [np.repeat(rgb[::n, ::n], 3, axis=2).astype(np.float32) for n in (1, 2, 4)]
        return NetworkOutput(red.astype(np.float32), tuple(levels))


def key_of(image: Image) -> int:
    return PLACES[id(image)]


class Finder(Colours):
    def __init__(self) -> None:
        self.asked = 0

    def find(self, image: Image, earlier: Alpha, clicks: Sequence[Click] = ()) -> Alpha:
        self.asked += 1
        return super().find(image, earlier, clicks)


def masks(
    marks: Mapping[int, Sequence[Mark]],
    network: Network,
    store: Store | None = None,
    finder: MaskFinder | None = None,
) -> list[Alpha]:
    cache = None if store is None else NetworkCache(store)
    guidance = None
    if marks:
        hinted = [(frame, IMAGES[frame], each) for frame, each in marks.items()]
        guidance = read_hints(hinted, network, TIER, key_of, cache, finder)
    return list(mask_images(IMAGES, network, TIER, guidance=guidance, cache=cache))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_windows(monkeypatch, 24, 12)
    monkeypatch.setattr(appearance, "STEPS", 8)


@pytest.mark.slow
def test_masks_are_the_same_with_and_without_what_is_kept() -> None:
    store, first = dict[str, np.ndarray](), Network()
    plain = masks({}, first, store)
    np.testing.assert_array_equal(plain, masks({}, Network()))
    hinted = masks(BOX, Network())
    assert not np.array_equal(hinted, plain)
    refined = Network()
    np.testing.assert_array_equal(hinted, masks(BOX, refined, store))
    assert len(refined.asked) == 4  # the hinted frame in three views, and a crop round the box
    np.testing.assert_array_equal(masks(CLICKS, Network()), masks(CLICKS, Network(), store))


@pytest.mark.slow
def test_masks_that_were_found_again_are_not_looked_for_by_the_next_run() -> None:
    """The third run has one more box, on a later frame: only what this changes is asked."""
    more = {**BOX, 21: [Mark(2, False, 220 / 320, 80 / 180, 20 / 320, 40 / 180)]}
    store = dict[str, np.ndarray]()
    asked = []
    for marks in (BOX, BOX, more):
        alone, after = Finder(), Finder()
        plain = masks(marks, Network(), finder=alone)
        np.testing.assert_array_equal(plain, masks(marks, Network(), store, after))
        asked.append((alone.asked, after.asked))
    (first, same), (_, none), (all_, rest) = asked
    assert first == same > 0
    assert none == 0
    assert 0 < rest < all_


@pytest.mark.slow
def test_a_file_that_is_full_or_of_another_clip_changes_no_mask(tmp_path: Path) -> None:
    path, hinted = tmp_path / "kept", masks(CLICK, Network())
    plain = Network()
    for clip, most_bytes in (("a", 300_000), ("b", 1 << 30)):
        with open_file_store(path, {"clip": clip}, most_bytes) as store:
            masks({}, plain, store)
            assert (store.get("complete") is None) == (clip == "a")
        for _ in range(2 if clip == "b" else 1):
            network = Network()
            with open_file_store(path, {"clip": clip}, most_bytes) as store:
                np.testing.assert_array_equal(hinted, masks(CLICK, network, store))
        assert (network.asked == []) == (clip == "b")


@pytest.mark.slow
@pytest.mark.linux
def test_a_disk_that_is_full_costs_no_mask_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, plain, hinted = tmp_path / "kept", masks({}, Network()), masks(CLICK, Network())
    with open_file_store(path, {}, 1 << 30) as store:
        masks({}, Network(), store)
    size_bytes = path.stat().st_size
    path.unlink()
    for left in (0, size_bytes // 2, size_bytes - 10):
        caplog.clear()
        with disk_of(left), open_file_store(path, {}, 1 << 30) as store:
            np.testing.assert_array_equal(plain, masks({}, Network(), store))
        assert [record.message for record in caplog.records] == [
            "the network results are not kept: File too large"
        ]
        assert list(tmp_path.iterdir()) == []
    with open_file_store(path, {}, 1 << 30) as store:
        masks({}, Network(), store)
    for left in (size_bytes // 2, size_bytes):  # the copy of what is known, and what is new
        with disk_of(left), open_file_store(path, {}, 1 << 30) as store:
            np.testing.assert_array_equal(hinted, masks(CLICK, Network(), store))
        assert path.stat().st_size == size_bytes


class Stopped(Network):
    """Ctrl-C comes while it is asked about the image of this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        if len(self.asked) == self._number:
            raise StoppedError
        return super().infer(image, size)


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 9, 15])
def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path, number: int) -> None:
    """Only the few frames from before a window's basis was fitted are asked again."""
    whole = Network()
    plain = masks({}, whole)
    assert len(whole.asked) > number

    def run(network: Network) -> list[Alpha]:
        with (
            open_file_store(tmp_path / "kept", {}, 1 << 30) as store,
            open_file_store(tmp_path / "unfinished", {}, 1 << 30) as unfinished,
        ):
            cache = NetworkCache(store, unfinished)
            return list(mask_images(IMAGES, network, TIER, cache=cache))

    with pytest.raises(StoppedError):
        run(Stopped(number))
    again = Network()
    np.testing.assert_array_equal(run(again), plain)
    asked_again = len(again.asked) + number - len(whole.asked)
    assert 0 <= asked_again <= 3


def bomb(path: Path, name: str) -> None:
    """An entry that is small in the file and would fill the memory."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as at:
        for _ in range(65):
            at.write(bytes(1 << 20))


def lie(path: Path, name: str) -> None:
    """An array whose header speaks of more bytes than there are."""
    head = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)}
    np.lib.format.write_array_header_1_0(head, shape)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, head.getvalue())


def damage(path: Path, name: str) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(name.encode(), b"\0" * len(name), 1))


def of_another_kind(path: Path, _: str) -> None:
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\1\2") + 6] = 255
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [bomb, lie, damage, of_another_kind])
def test_a_file_that_is_no_store_is_refused_in_little_memory(
    tmp_path: Path, spoil: Callable[[Path, str], None]
) -> None:
    path = tmp_path / "kept"
    with open_file_store(path, {}, 1 << 30) as store:
        masks({}, Network(), store)
    spoil(path, "0/extra" if spoil is not damage else "0/cropped")
    before = path.read_bytes()
    tracemalloc.start()
    with pytest.raises(NotACacheError), open_file_store(path, {}, 1 << 30) as store:
        store.get("0/extra")
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert path.read_bytes() == before


@pytest.mark.parametrize("lost", ["0/stretched", "0:0/logits"])
def test_kept_results_that_lack_one_are_refused(lost: str) -> None:
    """Flow on another machine may choose another frame than was kept."""
    store = dict[str, np.ndarray]()
    masks({}, Network(), store)
    del store[lost]
    with pytest.raises(NotACacheError, match=f"the kept network results lack {lost}"):
        masks({}, Network(), store)


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a row is missing": lambda planes: planes[..., :-1, :],
    "a column is missing": lambda planes: planes[..., :-1],
    "64 bits": lambda planes: planes.astype(np.float64),
    "one number": lambda planes: planes.reshape(-1)[:1],
}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("0/stretched", "a row is missing"),
        ("0:0/logits", "a column is missing"),
        ("hinted 7/stretched", "64 bits"),
        ("part", "one number"),
        ("thing 7", "a column is missing"),
    ],
)
def test_kept_results_of_another_shape_are_refused(
    hinted_store: dict[str, np.ndarray], name: str, shape: str
) -> None:
    store = dict(hinted_store)
    spoilt = next(each for each in store if name in each)
    store[spoilt] = SHAPES[shape](store[spoilt])
    with pytest.raises(NotACacheError, match=f"are damaged at {spoilt}"):
        masks(BOTH, Network(), store, Finder())


@pytest.fixture(scope="module")
def hinted_store() -> dict[str, np.ndarray]:
    with pytest.MonkeyPatch.context() as patched:
        shorten(patched)
        store = dict[str, np.ndarray]()
        masks({}, Network(), store)
        masks(BOTH, Network(), store, Finder())
    return store


@pytest.mark.parametrize("changed", ["temporal/appearance.py", "network/isnet_int8.json"])
def test_what_other_code_has_kept_is_not_read(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of the classifier or of the network may change, and no version with it."""
    path, code = tmp_path / "kept", tmp_path / "vision"
    shutil.copytree(Path(appearance.__file__).parents[1], code)
    monkeypatch.setattr(kept_results, "CODE", code)
    with open_file_store(path, {}, 1 << 20) as store:
        NetworkCache(store).finish()
    with open_file_store(path, {}, 1 << 20) as store:
        assert NetworkCache(store).is_complete
    with (code / changed).open("a") as file:
        file.write("\n")
    with open_file_store(path, {}, 1 << 20) as store:
        assert not NetworkCache(store).is_complete


def test_of_two_processes_with_one_file_each_reads_its_own_and_the_last_to_end_is_kept(
    tmp_path: Path,
) -> None:
    path, identity = tmp_path / "kept", {"clip": 1}
    ours, theirs = np.arange(5, dtype=np.uint8), np.arange(9, dtype=np.uint8)
    with open_file_store(path, identity, 1 << 20) as first:
        first.setdefault("array", ours)
        with open_file_store(path, identity, 1 << 20) as second:
            second.setdefault("array", theirs)
            NetworkCache(second).finish()
        np.testing.assert_array_equal(first.get("array"), ours)
        NetworkCache(first).finish()
    with open_file_store(path, identity, 1 << 20) as again:
        np.testing.assert_array_equal(again.get("array"), ours)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_becomes_another_clips_while_it_is_read_is_read_as_it_was(
    tmp_path: Path,
) -> None:
    path = tmp_path / "kept"
    for clip, level, read in (("ours", 1, None), ("theirs", 2, 1)):
        with open_file_store(path, {"clip": "ours"}, 1 << 20) as reader:
            with open_file_store(path, {"clip": clip}, 1 << 20) as store:
                store.setdefault("array", np.full(1, level, np.uint8))
                NetworkCache(store).finish()
            known = reader.get("array")
            assert (None if known is None else int(known[0])) == read
    with open_file_store(path, {"clip": "ours"}, 1 << 20) as store:
        assert store.get("array") is None
