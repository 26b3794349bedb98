import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import pytest

from foremask.errors import PromiseBroken
from foremask.media.verify import verify
from foremask.options import Preset
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
    with pytest.raises(PromiseBroken, match="avi"):
        verify(source, source)


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


@pytest.mark.parametrize("preset", [preset for preset in Preset if preset is not Preset.GIF])
def test_what_verify_accepts_ffmpeg_finds_equal(tmp_path: Path, preset: Preset) -> None:
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
