import io
import math
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest

from foremask import errors
from foremask.facts import Clip
from foremask.media import boxes, ebml
from foremask.media.demux import ReadWindow
from foremask.media.presets import RECIPES, check_preset, encoder_options, pixel_format
from foremask.media.probe import check_length, probe
from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from foremask.options import MASK_FORMS, UNLIMITED, Form, Limits
from tests.support import synth
from tests.support.refusals import refused
from tests.support.synth import Spec, Tone

NTSC = Spec(pts=synth.even(30, Fraction(30_000, 1001)), last_duration=1001)


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) / 256


class Stingy(io.BytesIO):
    """A source that never gives more than 10 000 bytes at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0
        return super().read(min(size, 10_000))


def test_a_clip_is_described_in_full(tmp_path: Path) -> None:
    sound = Tone(language="eng"), Tone(codec="pcm_s16le", language="fra", layout="mono")
    spec = replace(NTSC, turn=(270, False), aspect=Fraction(4, 3), sound=sound)
    clip = probe(synth.write(tmp_path / "clip.mov", spec))
    assert (clip.container, clip.codec, clip.pixel_format) == ("mov", "h264", "yuv420p")
    assert (clip.width, clip.height, clip.rotation, clip.mirrored) == (64, 48, 270, False)
    assert clip.sample_aspect_ratio == (4, 3)
    assert clip.fps == pytest.approx(30_000 / 1001)
    assert (clip.frames, clip.vfr, clip.hdr) == (30, False, None)
    assert clip.duration_s == pytest.approx(30 * 1001 / 30_000)
    assert [(a.codec, a.channels, a.language) for a in clip.audio] == [
        ("aac", 2, "eng"),
        ("pcm_s16le", 1, "fra"),
    ]


def test_text_of_a_file_is_short_and_is_text(tmp_path: Path) -> None:
    tones = (
        Tone(title="Caf\udce9"),  # as Python writes the byte E9, which is no UTF-8
        Tone(title=3_000_000 * "ä"),
        Tone(language=1000 * "\udcff"),
    )
    clip = probe(synth.write(tmp_path / "clip.mkv", Spec(sound=tones)))
    assert [track.title for track in clip.audio] == ["Caf\ufffd", 256 * "ä", None]
    assert clip.audio[2].language == 256 * "\ufffd"
    assert msgspec.json.decode(msgspec.json.encode(clip), type=Clip) == clip
    source, target = tmp_path / "clip.mkv", tmp_path / "mask.mkv"
    report = synth.mask(source, target, Form.MKV_H264)
    assert [track.language for track in report.audio] == [None, None, 256 * "\ufffd"]
    verify(source, target)
    assert [track.title for track in probe(target).audio] == [track.title for track in clip.audio]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("h264.mp4", Spec()),
        ("hevc.mov", Spec(codec="hevc")),
        ("vp9.webm", Spec(codec="vp9")),
        ("mjpeg.mov", Spec(codec="mjpeg", pixel_format="yuvj420p", full_range=True)),
        ("mpeg4.avi", Spec(codec="mpeg4", time_base=Fraction(1, 30), pts=tuple(range(9)))),
        ("moving.gif", Spec(codec="gif", pts=synth.even(9, Fraction(10)), pixel_format="rgb8")),
    ],
)
def test_a_file_and_a_remote_one_are_described_alike(tmp_path: Path, name: str, spec: Spec) -> None:
    renamed = synth.write(tmp_path / name, spec).rename(tmp_path / "clip.bin")
    clip = probe(Stingy(renamed.read_bytes()))
    assert clip == probe(renamed)
    assert clip.codec == spec.codec


def test_variable_frame_rate_is_noticed(tmp_path: Path) -> None:
    uneven = Spec(pts=synth.spread(12, (1000, 3000)))
    assert probe(synth.write(tmp_path / "a.mp4", uneven)).vfr


REFUSED = {
    "nothing": (b"", "empty_file"),
    "text": (b"Dear Sir or Madam, " * 100, "not_a_video"),
    "text with umlauts": ("Übel, grämlich und öde. ".encode() * 300, "not_a_video"),
    "a concat script": (b"ffconcat version 1.0\nfile a.mp4\n", "container_unsupported"),
    "a session description": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", "container_unsupported"),
    "a manifest": (b'<?xml version="1.0"?><MPD></MPD>' + bytes(999), "container_unsupported"),
    "a playlist": (b"#EXTM3U\n#EXTINF:10,\nhttp://example.com/1.ts\n", "container_unsupported"),
    "sound of Ogg": (b"OggS" + bytes(100), "container_unsupported"),
    "sound of Windows": (b"RIFF\0\0\0\0WAVEfmt " + bytes(100), "container_unsupported"),
    "a still of a phone": (b"\0\0\0\x18ftypheic" + bytes(100), "container_unsupported"),
    "mp4 without header": (b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\0mdat", "corrupt"),
    "a broken gif": (b"GIF89a" + bytes(5), "corrupt"),
    "a broken webm": (b"\x1aE\xdf\xa3\x84\x42\x82\x81w", "container_unsupported"),
}
READ_NOWHERE = ("a concat script", "a session description", "a playlist", "a manifest")
"""Files that name others: refused also where any format is allowed."""


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_clip_is_refused_for_the_right_reason(tmp_path: Path, what: str) -> None:
    data, reason = REFUSED[what]
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    sources: list[Path | Stingy] = [path, Stingy(data)]
    for source in sources:
        for limits in (Limits(), UNLIMITED) if what in READ_NOWHERE else (Limits(),):
            with refused(reason):
                probe(source, limits)


@pytest.mark.parametrize("head", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF....WEBP"])
@pytest.mark.parametrize("limits", [Limits(), UNLIMITED])
def test_a_picture_is_called_a_picture(tmp_path: Path, head: bytes, limits: Limits) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(head + bytes(5000))
    sources: list[Path | Stingy] = [path, Stingy(path.read_bytes())]
    for source in sources:
        with refused("container_unsupported", match="The file is a picture"):
            probe(source, limits)


@pytest.mark.parametrize(
    ("name", "limit", "reason", "actual"),
    [
        ("max_side_px", 63, "resolution_too_large", 64),
        ("max_duration_s", 1.5, "duration_too_long", 2.0),
        ("max_frames", 58, "too_many_frames", 60),
        ("max_frame_pixels", 184_319, "resolution_too_large", 184_320),
        ("max_bytes", 999, "file_too_large", None),
    ],
)
def test_limits_are_named_with_both_numbers(
    tmp_path: Path, name: str, limit: float, reason: str, actual: float | None
) -> None:
    path = synth.write(tmp_path / "clip.mp4", Spec(pts=synth.even(60, Fraction(30))))
    with refused(reason) as caught:
        probe(path, replace(UNLIMITED, **{name: limit}))  # type: ignore[arg-type]
    expected = path.stat().st_size if actual is None else actual
    assert (caught.value.limit, caught.value.actual) == (limit, expected)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_gif_that_is_too_large_is_told_so(tmp_path: Path, frames: int) -> None:
    """FFmpeg gives no size for one of 20000 pixels a side; its header does."""
    head = b"GIF89a" + struct.pack("<HHBBB", 20_000, 17_000, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    patch = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    path = tmp_path / "large.gif"
    path.write_bytes(head + patch * frames + b";")
    with pytest.raises(errors.ResolutionTooLarge) as refused:
        probe(path)
    assert (refused.value.limit, refused.value.actual) == (16_000, 20_000)


@pytest.mark.linux
@pytest.mark.slow
def test_a_gif_of_as_many_frames_as_can_be_counted_is_read_in_the_memory_of_one(
    tmp_path: Path,
) -> None:
    head = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + b"\xff\0\0\xff\xff\xff"
    patch = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    path = tmp_path / "long.gif"
    path.write_bytes(head + (b"\x21\xf9\4\4\2\0\0\0" + patch) * 65_536 + b";")
    with VideoReader(path) as reader:
        next(iter(reader))
        before = resident_mib()
        assert sum(1 for _ in reader) == 65_535
        assert resident_mib() < before + 8


def test_one_frame_more_than_the_limit_is_tolerated(tmp_path: Path) -> None:
    """At any rate, and 1800 frames at 29.97 are a minute, though they last 60.06 s."""
    path = synth.write(tmp_path / "clip.mp4", Spec(pts=synth.even(60, Fraction(30))))
    clip = probe(path, Limits(max_duration_s=1.98, max_frames=59))
    for rate in (1, 12, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 119.88, 120):
        frames = 60 * math.ceil(rate) + 1
        given = replace(clip, fps=rate)
        check_length(given, Limits(), frames / rate, frames)
        with refused("duration_too_long"):
            check_length(given, Limits(), (frames + max(2, 0.07 * rate)) / rate, None)


def test_a_frame_too_large_for_the_memory_is_refused_with_the_presets_that_fit(
    tmp_path: Path,
) -> None:
    huge = replace(probe(synth.write(tmp_path / "a.mp4", Spec())), width=16_000, height=16_000)
    for preset in MASK_FORMS:
        check_preset(huge, preset, 21 * 10**9)
    fit = r"20480000000 bytes.* 15000000000 .*use one of mp4_h264, mp4_h265, mov_h265, mov_prores"
    with pytest.raises(errors.PresetUnsuitable, match=fit):
        check_preset(huge, Form.WEBM_VP9, 15 * 10**9)
    with pytest.raises(errors.PresetUnsuitable, match="no preset can"):
        check_preset(huge, Form.GIF, 4 * 10**9)


def test_an_encoders_own_limit_is_named_with_the_presets_that_can(tmp_path: Path) -> None:
    clip = replace(probe(synth.write(tmp_path / "a.mp4", Spec())), width=16_400, height=64)
    with pytest.raises(errors.PresetUnsuitable, match=r"libx264.*16384.*use one of mp4_h265") as e:
        check_preset(clip, Form.MKV_H264)
    assert (e.value.limit, e.value.actual) == (16_384, 16_400)


@pytest.mark.parametrize(
    "preset", [Form.MP4_H264, Form.MP4_H265, Form.WEBM_VP9, Form.MOV_PRORESKS, Form.GIF]
)
@pytest.mark.parametrize("upright", [False, True])
def test_every_encoder_takes_the_longest_side(preset: Form, upright: bool) -> None:
    encoder = RECIPES[preset].encoder
    for side_px in (16_000, min(encoder.max_side_px, 16_384)):
        width, height = (64, side_px) if upright else (side_px, 64)
        codec: Any = av.CodecContext.create(encoder.name, "w")
        codec.width, codec.height, codec.time_base = width, height, Fraction(1, 25)
        codec.pix_fmt = pixel_format(encoder, width, height)
        codec.options = encoder_options(encoder, width, height)
        grey = av.VideoFrame.from_ndarray(np.zeros((height, width), np.uint8), "gray")
        assert [*codec.encode(grey.reformat(format=codec.pix_fmt)), *codec.encode(None)]


def test_a_window_never_gives_more_than_it_was_asked_for() -> None:
    """PyAV copies what it gets unchecked, so an eager source must be held back."""

    class Eager(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read((size or 0) + 100)

    data = bytes(range(256)) * 1000
    window = ReadWindow(Eager(data), max_bytes=1 << 20)
    assert window.read(7) == data[:7]
    assert window.read_at(65_530, 20) == data[65_530:65_550]
    assert len(window.read(100)) == 100


def test_a_window_ends_where_its_budget_ends() -> None:
    window = ReadWindow(io.BytesIO(bytes(1 << 20)), max_bytes=200_000)
    with pytest.raises(OSError, match="200000"):
        window.read_at(0, 1 << 20)


def _reads(search: Callable[[boxes.ReadAt], object], data: bytes) -> int:
    """How often ``search`` reads from ``data`` before it returns."""
    count = 0

    def read_at(offset: int, size: int) -> bytes:
        nonlocal count
        count += 1
        return data[offset : offset + size]

    search(read_at)
    return count


def test_a_hostile_box_tree_ends() -> None:
    for data in (
        bytes(4) + b"moov" + bytes(100),
        b"\0\0\0\x08moov" * 5000,
        b"\xff\xff\xff\xffmoov" * 5000,
        b"\0\0\0\1moov\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x02free" * 5000,
    ):
        assert _reads(partial(boxes.survey, size=len(data)), data) <= len(data)


def test_a_hostile_fragmented_file_is_read_in_a_few_places() -> None:
    fragment = b"\0\0\0\x18moof\0\0\0\x10mfhd" + bytes(8)
    for data in (b"\0\0\0\x08moof" * 5000, fragment * 5000, fragment + b"\0\0\0\x08free" * 5000):
        search = partial(boxes.declared_size_nearby, size=len(data))
        assert _reads(search, data) <= 13


def test_a_hostile_matroska_tail_ends() -> None:
    rng = np.random.default_rng(1)
    data = b"\x1f\x43\xb6\x75".join(rng.bytes(50) for _ in range(2000))
    assert _reads(partial(ebml.last_block_ticks, size=len(data)), data) == 1
    unknown = b"\x01" + 7 * b"\xff"
    live = b"\x1aE\xdf\xa3\x80\x18\x53\x80\x67" + unknown
    cluster = b"\x1f\x43\xb6\x75" + unknown
    for tail in (data, cluster * 5000, cluster + b"\xe7\x81\0" + b"\xa3\x80" * 2_000_000):
        hostile = live + tail
        reads = len(hostile) // (1 << 20) + 2
        assert _reads(partial(ebml.declared_size, size=len(hostile)), hostile) <= reads


def _muxed(spec: Spec, **muxer_options: str) -> Spec:
    return replace(spec, muxer_options=muxer_options)


TWO_S = Spec(pts=synth.even(60, Fraction(30)))
TWO_S_VP9 = replace(TWO_S, codec="vp9")
LIVE = {"live": "1", "write_crc32": "0"}
FORMS: dict[str, tuple[str, Spec]] = {
    "index first": ("a.mp4", _muxed(TWO_S, movflags="faststart")),
    "QuickTime": ("a.mov", _muxed(TWO_S, movflags="faststart")),
    "fragments": ("a.mp4", _muxed(TWO_S, movflags="frag_keyframe+empty_moov")),
    "fragments of QuickTime": ("a.mov", _muxed(TWO_S, movflags="frag_keyframe+empty_moov")),
    "no index of fragments": ("a.mp4", _muxed(TWO_S, movflags="frag_keyframe+skip_trailer")),
    "index before the fragments": ("a.mp4", _muxed(TWO_S, movflags="frag_keyframe+global_sidx")),
    "DASH": ("a.mp4", _muxed(TWO_S, movflags="dash+frag_keyframe")),
    "CMAF": ("a.mp4", _muxed(TWO_S, movflags="cmaf+frag_keyframe")),
    "a frame a fragment": ("a.mp4", _muxed(TWO_S, movflags="frag_every_frame+empty_moov")),
    "WebM": ("a.webm", TWO_S_VP9),
    "WebM, index first": ("a.webm", _muxed(TWO_S_VP9, cues_to_front="1")),
    "live WebM": ("a.webm", _muxed(TWO_S_VP9, **LIVE)),
    "Matroska": ("a.mkv", TWO_S),
    "live Matroska": ("a.mkv", _muxed(TWO_S, **LIVE)),
}
"""Of these, any part with the header and a frame can be masked."""


def _cut_off(path: Path) -> int | None:
    """Return how many bytes a file has had at least, as the probe says; None if nothing."""
    told = probe(path).warnings
    with path.open("rb") as remote:
        assert probe(remote).warnings == told
    if not told:
        return None
    words = r"the file was cut off: (\d+) of at least (\d+) bytes are there, and the end is missing"
    (said,) = told
    match = re.fullmatch(words, said)
    assert match is not None, said
    assert int(match[1]) == path.stat().st_size
    return int(match[2])


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_was_cut_off_behind_its_header_is_told_by_the_probe(
    tmp_path: Path, form: str
) -> None:
    """Its frames up to the cut are masked all the same, so it is not refused."""
    name, spec = FORMS[form]
    whole = synth.write(tmp_path / name, spec)
    data = whole.read_bytes()
    assert _cut_off(whole) is None
    cut = tmp_path / f"cut{whole.suffix}"
    for missing in (600, len(data) // 3):
        cut.write_bytes(data[:-missing])
        declared = _cut_off(cut)
        assert declared is not None
        assert len(data) - missing < declared <= len(data)


def test_a_live_recording_is_cut_off_only_if_a_frame_of_it_is(tmp_path: Path) -> None:
    """Browsers declare the size neither of the segment nor of a cluster."""
    written = synth.write(tmp_path / "a.webm", _muxed(TWO_S_VP9, **LIVE)).read_bytes()
    sized = re.compile(b"(\x1f\x43\xb6\x75)[\x40-\x7f].", re.DOTALL)
    data, clusters = sized.subn(lambda found: found[1] + b"\x01" + 7 * b"\xff", written)
    assert clusters == 5
    live = tmp_path / "live.webm"
    live.write_bytes(data)
    with av.open(str(live)) as opened:
        last_bytes = [packet.size for packet in opened.demux() if packet.size][-1]
    assert _cut_off(live) is None
    for missing in (1, last_bytes // 2, last_bytes):
        live.write_bytes(data[:-missing])
        assert _cut_off(live) == len(data)
    block_at = data.rindex(b"\xa3", 0, -last_bytes)
    live.write_bytes(data[:block_at])
    assert _cut_off(live) is None


def test_what_a_camera_appends_to_a_whole_file_does_not_make_it_cut_off(tmp_path: Path) -> None:
    """It has no box's name, and its first bytes are no length."""
    for form, (name, spec) in FORMS.items():
        whole = synth.write(tmp_path / name, spec)
        whole.write_bytes(whole.read_bytes() + b"\x7f\xff\xff\xf0SEFT" + bytes(range(100)))
        assert _cut_off(whole) is None, form


def test_a_recording_that_was_ended_as_a_plain_mp4_is_not_cut_off(tmp_path: Path) -> None:
    """Its one mdat box has the fragments' boxes inside."""
    hybrid = _muxed(TWO_S, movflags="hybrid_fragmented+frag_keyframe")
    assert _cut_off(synth.write(tmp_path / "a.mp4", hybrid)) is None
