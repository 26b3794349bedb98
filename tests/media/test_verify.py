import csv
import io
import re
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from foremask.errors import ClipRefused, PromiseBroken
from foremask.media.png_sequence import TABLE, PngSequenceWriter
from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from foremask.options import MASK_FORMS, Form, ResultKind
from tests.media.test_audio import peak_mb
from tests.support import synth
from tests.support.synth import Spec, Tone

WHOLE = Spec(sound=(Tone(language="eng"),), turn=(90, False), aspect=Fraction(4, 3))
BROKEN = {
    "size": replace(WHOLE, width=66),
    "rotation": replace(WHOLE, turn=(0, False)),
    "aspect": replace(WHOLE, aspect=Fraction(1)),
    "levels": replace(WHOLE, full_range=True),
    "frames": replace(WHOLE, pts=WHOLE.pts[:-1]),
    "pts": replace(WHOLE, pts=(*WHOLE.pts[:4], WHOLE.pts[4] + 1, *WHOLE.pts[5:])),
    "last duration": replace(WHOLE, last_duration=1500),
    "audio tracks": replace(WHOLE, sound=()),
    "audio language": replace(WHOLE, sound=(Tone(language="deu"),)),
    "audio start": replace(WHOLE, sound=(Tone(language="eng", start_s=0.2),)),
    "audio end": replace(WHOLE, sound=(Tone(language="eng", seconds=0.7),)),
}


def test_a_copy_keeps_every_promise(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "source.mp4", WHOLE, synth.greys(WHOLE))
    assert {check.promise for check in verify(source, source)} == {"container", *BROKEN}


def test_an_avi_is_no_mask(tmp_path: Path) -> None:
    spec = Spec(time_base=Fraction(1, 30), pts=tuple(range(9)), last_duration=1)
    source = synth.write(tmp_path / "source.avi", spec)
    with pytest.raises(PromiseBroken) as broken:
        verify(source, source)
    assert broken.value.param == "container"


def test_levels_beyond_black_and_white_are_named(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "source.mp4", WHOLE)
    mask = synth.write(tmp_path / "mask.mp4", replace(WHOLE, full_range=True), synth.greys(WHOLE))
    retagged, limited = tmp_path / "retagged.mp4", "h264_metadata=video_full_range_flag=0"
    ffmpeg(mask, "-c", "copy", "-bsf:v", limited, str(retagged))
    with pytest.raises(PromiseBroken, match="luma from 0 to 255; black is 16 and white 235"):
        verify(source, retagged)


def ffmpeg(path: Path, *options: str) -> tuple[str, str]:
    ask = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-i", str(path)]
    ask += ["-copyts", *options]
    done = subprocess.run(ask, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stderr.partition("Stream mapping")[0], done.stdout


def times(listing: str, stream: int) -> tuple[list[float], float]:
    base = Fraction(re.findall(rf"#tb {stream}: (\S+)", listing)[0])
    rows = [line.split(",") for line in listing.splitlines() if line.startswith(f"{stream},")]
    shown = sorted((int(row[2]), int(row[3])) for row in rows)
    return [float(pts * base) for pts, _ in shown], float(sum(shown[-1]) * base)


def facts(path: Path) -> dict[str, object]:
    both = "-map", "0:v", "-map", "0:a?"
    header, packets = ffmpeg(path, *both, "-c", "copy", "-f", "framecrc", "-")
    starts, end = times(packets, 0)
    (video,) = re.findall(r"Video: .*", header)
    aspect = re.search(r"SAR (\d+):(\d+)", video)
    languages = re.findall(r"Stream #0:\d+\S*?(?:\((\w+)\))?: Audio", header)
    heard = [times(packets, 1 + number) for number, _ in enumerate(languages)]
    return {
        "size": re.findall(r", (\d+x\d+)\b", video),
        "rotation": re.findall(r"rotation of (\S+)", header),
        "aspect": int(aspect[1]) / int(aspect[2]) if aspect else 1.0,
        "levels": "full" if re.search(r"yuvj|\(pc", video) else "limited",
        "frames": len(starts),
        "pts": starts,
        "last duration": end,
        "audio tracks": len(languages),
        "audio language": languages,
        "audio start": [at[0] for at, _ in heard],
        "audio end": [ended for _, ended in heard],
    }


def differing(source: Path, mask: Path) -> set[str]:
    wanted, found = facts(source), facts(mask)
    tick_s = 1e-6 if mask.suffix in (".mp4", ".mov") else 0.0015  # Matroska rounds start and length
    tolerances = {"pts": tick_s, "last duration": tick_s, "aspect": 0.01}  # WebM rounds the size
    tolerances |= dict.fromkeys(("audio start", "audio end"), 0.06)  # an encoder's frame
    return {
        name
        for name, value in wanted.items()
        if found[name] != pytest.approx(value, abs=tolerances.get(name))
    }


@pytest.mark.parametrize("preset", [preset for preset in MASK_FORMS if preset is not Form.GIF])
def test_what_verify_accepts_ffmpeg_finds_equal(tmp_path: Path, preset: Form) -> None:
    source, target = synth.write(tmp_path / "a.mp4", WHOLE), tmp_path / f"mask{preset.suffix}"
    synth.mask(source, target, preset)
    verify(source, target)
    assert not differing(source, target)


@pytest.mark.parametrize("promise", BROKEN)
def test_what_verify_refuses_ffmpeg_finds_different(tmp_path: Path, promise: str) -> None:
    source = synth.write(tmp_path / "source.mp4", WHOLE)
    spec = BROKEN[promise]
    mask = synth.write(tmp_path / "mask.mp4", spec, synth.greys(spec))
    with pytest.raises(PromiseBroken) as broken:
        verify(source, mask)
    assert broken.value.param == promise
    assert promise in differing(source, mask)


FAST_CLIPS = {"2000 frames a second": (Fraction(1, 30_000), 15), "10000": (Fraction(1, 10_000), 1)}


@pytest.mark.parametrize("preset", [each for each in MASK_FORMS if each is not Form.GIF])
@pytest.mark.parametrize("rate", FAST_CLIPS)
def test_thousands_of_frames_a_second_are_right_and_said(
    tmp_path: Path, rate: str, preset: Form
) -> None:
    """Matroska's milliseconds give several frames one timestamp, off by half a millisecond."""
    time_base, step = FAST_CLIPS[rate]
    pts = tuple(range(0, 40 * step, step))
    source = synth.write(tmp_path / "a.mp4", Spec(time_base=time_base, pts=pts, last_duration=step))
    assert synth.describe(source).fps == 1 / (step * time_base)
    target = tmp_path / f"mask{preset.suffix}"
    assert synth.mask(source, target, preset).warnings == ()
    verify(source, target)


def shuffled(path: Path, pts: list[int]) -> Path:
    """A clip of keyframes only, whose frames are stored in order but have other timestamps."""
    spec = Spec(pts=tuple(range(len(pts))), codec="mjpeg", pixel_format="yuvj420p", full_range=True)
    drawn = synth.write(path.with_suffix(".mov"), spec)
    with av.open(str(drawn)) as read, av.open(str(path), "w") as written:
        copy = written.add_stream_from_template(read.streams.video[0])
        packets = (packet for packet in read.demux(video=0) if packet.size)
        for number, (packet, moment) in enumerate(zip(packets, pts, strict=True)):
            packet.stream = copy
            packet.time_base = Fraction(1, 1000)
            packet.dts = number  # rises, as the muxer demands; Matroska does not store it
            packet.pts = 10 + moment
            packet.duration = 40
            written.mux(packet)
    return path


@pytest.mark.parametrize(
    ("pts", "moved", "worst_s"),
    [
        ([0, 40, 80, 120, 0, 40, 80, 120], 4, 0.121),  # two recordings, one after the other
        ([0, 40, 20_000, 120, 160, 200, 240, 280], 5, 19.881),
        ([0, 80, 40, 160, 120, 240, 200, 320], 3, 0.041),
    ],
    ids=["appended", "outlier", "zigzag"],
)
def test_timestamps_that_do_not_rise_are_told_and_break_the_promise(
    tmp_path: Path, pts: list[int], moved: int, worst_s: float
) -> None:
    source, target = shuffled(tmp_path / "a.mkv", pts), tmp_path / "mask.mp4"
    (warning,) = synth.mask(source, target).warnings
    assert f"{moved} frames have timestamps that do not rise" in warning
    assert f"up to {worst_s:.3f} s" in warning
    with pytest.raises(PromiseBroken) as broken:
        verify(source, target)
    assert broken.value.param == "pts"


PICTURES = replace(WHOLE, sound=(), aspect=Fraction(1))


def cut_out(folder: Path, name: str) -> tuple[Path, Path]:
    source, made = synth.write(folder / "source.mp4", PICTURES), folder / name
    if not (into_zip := name.endswith(".zip")):
        made.mkdir()
    with (
        VideoReader(source) as reader,
        PngSequenceWriter(made, reader.clip, "%03d.png", into_zip=into_zip) as writer,
    ):
        for frame in reader:
            levels = np.full((48, 64), 9, np.uint8)
            writer.write(frame.orientation.to_coded(frame.rgb(48, 64)), levels, frame)
        writer.finish(reader.end)
    return source, made


@pytest.mark.parametrize("name", ["made.zip", "made"])
def test_a_whole_sequence_keeps_its_promises(tmp_path: Path, name: str) -> None:
    kept = verify(*cut_out(tmp_path, name), ResultKind.CUTOUT)
    names = ["container", "frames", "size", "alpha", "pts", "last duration"]
    assert [each.promise for each in kept] == names


type Files = dict[str, bytes]


def table(change: Callable[[list[list[str]]], object]) -> Callable[[Files], object]:
    def changed(files: Files) -> None:
        rows = list(csv.reader(io.StringIO(files[TABLE].decode())))
        change(rows)
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        files[TABLE] = text.getvalue().encode()

    return changed


def picture(*shape: int) -> bytes:
    return cv2.imencode(".png", np.zeros(shape, np.uint8))[1].tobytes()


def cell(row: int, column: int, text: str) -> Callable[[Files], object]:
    return table(lambda rows: rows[row].__setitem__(column, text))


SPOILT: dict[str, tuple[str, Callable[[Files], object]]] = {
    "no table": ("container", lambda files: files.pop(TABLE)),
    "an empty table": ("frames", lambda files: files.update({TABLE: b""})),
    "only a head": ("frames", table(lambda rows: rows.__delitem__(slice(1, None)))),
    "a row is lost": ("frames", table(lambda rows: rows.pop())),
    "a row too many": ("frames", table(lambda rows: rows.append(["001.png", "9", "1"]))),
    "a row of two cells": ("frames", table(lambda rows: rows[3].pop())),
    "a row that never ends": ("frames", lambda files: files.update({TABLE: b"x" * 10_000_000})),
    "a time is no number": ("frames", cell(3, 1, "soon")),
    "a time is nan": ("pts", cell(3, 1, "nan")),
    "a time is late": ("pts", cell(3, 1, "0.101")),
    "the end is late": ("last duration", cell(10, 2, "5")),
    "outside": ("frames", cell(3, 0, "../source.mp4")),
    "absolute": ("frames", cell(3, 0, "/etc/hostname")),
    "a name twice": ("frames", cell(3, 0, "001.png")),
    "no picture of that name": ("frames", cell(3, 0, "new.png")),
    "a picture is lost": ("frames", lambda files: files.pop("004.png")),
    "a picture is text": ("frames", lambda files: files.update({"004.png": b"hello"})),
    "half a picture": ("frames", lambda files: files.update({"004.png": files["004.png"][:99]})),
    "another size": ("size", lambda files: files.update({"004.png": picture(48, 64, 4)})),
    "no alpha": ("alpha", lambda files: files.update({"004.png": picture(64, 48, 3)})),
}


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Files]:
    source, made = cut_out(tmp_path_factory.mktemp("sequence"), "whole.zip")
    with zipfile.ZipFile(made) as archive:
        return source, {each: archive.read(each) for each in archive.namelist()}


@pytest.mark.parametrize("what", SPOILT)
def test_a_sequence_that_is_no_cut_out_of_the_clip_is_refused(
    tmp_path: Path, sequence: tuple[Path, Files], what: str
) -> None:
    source, whole = sequence
    promise, spoil = SPOILT[what]
    files = dict(whole)
    spoil(files)
    folder, zipped = tmp_path / "made", tmp_path / "made.zip"
    folder.mkdir()
    with zipfile.ZipFile(zipped, "w") as archive:
        for name, data in files.items():
            (folder / name).write_bytes(data)
            archive.writestr(name, data)
    for spoilt in (folder, zipped):
        with pytest.raises(PromiseBroken) as broken:
            verify(source, spoilt, ResultKind.CUTOUT)
        assert broken.value.param == promise


def test_a_sequence_of_pictures_is_no_mask(tmp_path: Path) -> None:
    with pytest.raises(PromiseBroken) as broken:
        verify(*cut_out(tmp_path, "made.zip"))
    assert broken.value.param == "container"


def test_half_a_mask_with_a_zip_behind_it_is_no_sequence(tmp_path: Path) -> None:
    source, made = cut_out(tmp_path, "made.zip")
    synth.mask(source, tmp_path / "mask.mp4")
    half = (tmp_path / "mask.mp4").read_bytes()[:2000]
    (tmp_path / "mask.mp4").write_bytes(half + made.read_bytes())
    with pytest.raises((PromiseBroken, ClipRefused)):
        verify(source, tmp_path / "mask.mp4", ResultKind.CUTOUT)


def test_a_zip_that_unpacks_to_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    source, bomb = synth.write(tmp_path / "source.mp4", WHOLE), tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open(TABLE, "w", force_zip64=True) as packed,
    ):
        for _ in range(300):
            packed.write(bytes(1 << 20))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here
    before = peak_mb()
    with pytest.raises(PromiseBroken, match="compressed"):
        verify(source, bomb, ResultKind.CUTOUT)
    assert peak_mb() - before < 50
