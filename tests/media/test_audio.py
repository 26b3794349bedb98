from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from foremask.facts import SoundTrack
from foremask.media.audio import COPIES, Sound, encoder_for
from tests.support import synth
from tests.support.synth import Spec, Tone

SUFFIX = {"mp4": ".mp4", "mov": ".mov", "webm": ".webm", "matroska": ".mkv"}
PCM_HZ = 8000


def muxed(source: Path, target: Path, muxer: str) -> Sound:
    with av.open(str(target), "w", format=muxer) as out:
        sound = Sound(source, out, muxer)
        sound.finish()
        sound.close()
    return sound


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as opened:
        return [bytes(packet) for packet in opened.demux(audio=0) if packet.size]


def loud_tenths(path: Path) -> set[int]:
    heard = defaultdict[int, list[float]](list)
    with av.open(str(path)) as opened:
        for frame in opened.decode(audio=0):
            heard[int(10 * (frame.time or 0))].append(float(np.abs(frame.to_ndarray()).mean()))
    loudest = max(map(max, heard.values()))
    return {tenth for tenth, levels in heard.items() if np.mean(levels) > loudest / 2}


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def sounding(path: Path, starts: Iterable[int], codec: str = "pcm_s16le") -> Path:
    """A packet of 320 samples from each of ``starts``."""
    with av.open(str(path), "w", format="matroska" if path.suffix == ".mkv" else None) as out:
        track: Any = out.add_stream(codec, rate=PCM_HZ)
        track.codec_context.layout = "mono"
        for at in starts:
            wave = (12_000 * np.sin(np.arange(320) / 3)).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(wave, "s16", "mono")
            frame.sample_rate, frame.time_base, frame.pts = PCM_HZ, Fraction(1, PCM_HZ), at
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return path


def bursts(path: Path, gap_s: float = 0.5, codec: str = "pcm_s16le") -> Path:
    """Sound of 0.4 s before and after a gap without packets."""
    again = 3200 + round(gap_s * PCM_HZ)
    return sounding(path, (*range(0, 3200, 320), *range(again, again + 3200, 320)), codec)


@pytest.mark.parametrize(
    ("name", "tone", "muxer", "written_as"),
    [
        ("a.mp4", Tone("aac"), "mp4", "aac"),
        ("a.mp4", Tone("aac"), "webm", "opus"),
        ("a.mp4", Tone("mp3"), "mov", "mp3"),
        ("a.mp4", Tone("opus"), "mov", "aac"),
        ("a.webm", Tone("opus"), "webm", "opus"),
        ("a.mkv", Tone("flac"), "mov", "alac"),
        ("a.mkv", Tone("flac"), "mp4", "flac"),
        ("a.mkv", Tone("pcm_s16le"), "mp4", "aac"),
        ("a.mkv", Tone("pcm_s16le"), "matroska", "pcm_s16le"),
        ("a.mkv", Tone("flac", layout="2.1"), "webm", "opus"),
    ],
)
def test_sound_is_copied_where_the_container_can_hold_it(
    tmp_path: Path, name: str, tone: Tone, muxer: str, written_as: str
) -> None:
    codec = "vp9" if name == "a.webm" else "h264"
    source = synth.write(tmp_path / name, Spec(codec=codec, sound=(tone,)))
    target = tmp_path / f"sound{SUFFIX[muxer]}"
    (track,) = muxed(source, target, muxer).tracks
    copied = track.codec == written_as
    assert (track.action, track.written_as) == ("kept" if copied else "transcoded", written_as)
    assert copied == (track.codec in COPIES[muxer])
    assert (packets(target) == packets(source)) == copied


def test_a_gap_becomes_silence_of_the_same_length(tmp_path: Path) -> None:
    source = bursts(tmp_path / "a.mkv")
    target = tmp_path / "sound.webm"
    muxed(source, target, "webm")
    assert loud_tenths(source) == loud_tenths(target) == {0, 1, 2, 3, 9, 10, 11, 12}


@pytest.mark.parametrize("kind", ["u8", "s16le", "s24le", "s32le", "f32le", "alaw", "mulaw"])
def test_mov_counts_samples_so_a_gap_in_pcm_is_filled(tmp_path: Path, kind: str) -> None:
    suffix = ".nut" if kind in ("alaw", "mulaw") else ".mkv"
    source = bursts(tmp_path / f"a{suffix}", codec=f"pcm_{kind}")
    target = tmp_path / "sound.mov"
    (track,) = muxed(source, target, "mov").tracks
    assert track.written_as == f"pcm_{kind}"
    with av.open(str(target)) as opened:
        pieces = [frame.to_ndarray()[0] for frame in opened.decode(audio=0)]
    heard = np.concatenate(pieces).astype(np.float64)
    heard -= 128 * (kind == "u8")
    tenths = np.abs(heard).reshape(13, PCM_HZ // 10).mean(axis=1)
    assert np.all(tenths[4:9] < 0.002 * tenths.max())  # silence of A-law is the level 8
    assert np.all(np.delete(tenths, range(4, 9)) > tenths.max() / 2)


def two_recordings(path: Path, codec: str) -> Path:
    """Two seconds of sound whose timestamps go from 0 to 1 s, then from 0.5 to 1.5 s."""
    whole = synth.write(path.with_name("whole.mkv"), Spec(sound=(Tone(codec, seconds=2.0),)))
    with av.open(str(whole)) as read, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(read.streams.audio[0])
        for number, packet in enumerate(read.demux(audio=0)):
            if packet.size and packet.pts is not None:
                again = packet.pts * packet.time_base >= 1
                packet.pts += 10 - (500 if again else 0)
                packet.dts = number - 100  # rises, as the muxer demands; Matroska has no dts
                packet.stream = copy
                out.mux(packet)
    return path


def seconds_of(path: Path) -> float:
    with av.open(str(path)) as opened:
        return sum(frame.samples / frame.sample_rate for frame in opened.decode(audio=0))


@pytest.mark.parametrize("muxer", SUFFIX)
@pytest.mark.parametrize("codec", ["opus", "aac", "pcm_s16le"])
def test_sound_whose_timestamps_go_back_is_kept_whole(
    tmp_path: Path, codec: str, muxer: str
) -> None:
    source = two_recordings(tmp_path / "a.mkv", codec)
    target = tmp_path / f"sound{SUFFIX[muxer]}"
    sound = muxed(source, target, muxer)
    assert seconds_of(target) == pytest.approx(seconds_of(source), abs=0.03)
    if sound.tracks[0].action == "kept":
        (warning,) = sound.warnings
        assert "timestamps that do not rise" in warning


def test_sound_that_overlaps_follows_one_after_another(tmp_path: Path) -> None:
    source = sounding(tmp_path / "a.mkv", range(0, 40 * 240, 240))  # 40 ms every 30 ms
    target = tmp_path / "sound.webm"
    muxed(source, target, "webm")
    assert loud_tenths(target) == set(range(16))


def test_a_long_gap_takes_the_memory_of_seconds(tmp_path: Path) -> None:
    source = bursts(tmp_path / "a.mkv", gap_s=1800)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here
    before = peak_mb()
    muxed(source, tmp_path / "sound.mp4", "mp4")
    assert peak_mb() - before < 24


def test_only_what_sounds_before_a_moment_is_muxed(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "a.mp4", Spec(sound=(Tone(seconds=2.0),)))
    target = tmp_path / "sound.mp4"
    with av.open(str(target), "w", format="mp4") as out:
        sound = Sound(source, out, "mp4")
        sound.mux_until(Fraction(1))
        sound.close()
    assert loud_tenths(target) - {10} == set(range(10))


@pytest.mark.parametrize(("muxer", "code"), [("mov", "ger"), ("matroska", "deu"), ("mp4", "deu")])
def test_a_language_has_the_code_of_the_container(tmp_path: Path, muxer: str, code: str) -> None:
    source = synth.write(tmp_path / "a.mp4", Spec(sound=(Tone(language="deu"),)))
    target = tmp_path / f"sound{SUFFIX[muxer]}"
    (track,) = muxed(source, target, muxer).tracks
    assert track == SoundTrack("aac", "aac", "kept", "copied packet by packet", "deu")
    with av.open(str(target)) as opened:
        assert opened.streams.audio[0].language == code


def test_an_encoder_gets_a_rate_that_it_takes() -> None:
    assert encoder_for("webm", "aac", 22_050) == ("libopus", 48_000)
    assert encoder_for("mp4", "pcm_s16le", 96_000) == ("aac", 96_000)
    assert encoder_for("mp4", "pcm_s16le", 37_800) == ("aac", 32_000)
    assert encoder_for("mp4", "pcm_s16le", 4_000) == ("aac", 8_000)
    assert encoder_for("mov", "flac", 44_100) == ("alac", 44_100)
    assert encoder_for("matroska", "wmav2", 44_100) == ("flac", 44_100)
