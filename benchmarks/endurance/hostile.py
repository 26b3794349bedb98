"""Gives broken and malicious files to the sandboxed probe and masker, and counts the outcomes.

``python -m benchmarks.endurance.hostile [--mutations 2000] [--seed 1] [--only ROW] [--gib 3]``
prints a table; ``--only mutated --seconds 600`` with several seeds makes a long run in parts. A
file must be refused with an error of foremask, or masked with all of its frames. No file may end
the parent process, make it hang, or give a mask whose report is false. Backgrounds, masks for
``verify`` and kept network results are mutated too. A cheap masker replaces the network. A mask may
take ``--gib`` of memory: ``--only extremes --gib 9`` masks the largest frames instead of refusing
them.
"""

import asyncio
import io
import random
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tests.support import synth

from benchmarks.clips import DATA
from benchmarks.machine import header, row, run
from benchmarks.stand_in import bright_is_foreground, make
from foremask.errors import Failed, ForemaskError
from foremask.facts import Clip, Report
from foremask.media.pictures import check_background, is_picture, read_background
from foremask.media.verify import verify
from foremask.options import (
    UNLIMITED,
    Files,
    Form,
    Input,
    JobSpec,
    Limits,
    Output,
    Resources,
    ResultKind,
)
from foremask.service.sandbox import execution
from foremask.service.sandbox.messages import Executor, Make, Parent, Probe, Request
from foremask.service.sandbox.pool import ChildDied, MediaPool
from foremask.settings import Sandbox
from foremask.vision.network.kept_results import NotACacheError, open_file_store
from foremask.vision.network.network_cache import NetworkCache

MEDIA = DATA / "media"
ROOT = Path(__file__).parents[2]
WALL_CLOCK_S = 60.0
LONG_S = 1800.0  # for what a command takes
SLOTS = 2
LIMITS = Limits()
ARRAYS = ("plain", "features")
FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"


class Read(Request[str], frozen=True):
    """Read a file of this ``kind``, which may be a mask of the clip ``good``; return the outcome.

    A file of kept network results is copied to ``kept`` and read there.
    """

    kind: str
    source: Input
    good: Input
    kept: Output


def read(request: Read, _: Parent) -> str:
    source, kept = request.source, request.kept
    shutil.copyfile(source, kept)
    try:
        match request.kind:
            case "mask" | "cut-out":
                verify(request.good, source, ResultKind(request.kind.replace("-", "")))
            case "kept results":
                with open_file_store(kept, {}, LIMITS.max_bytes) as store:
                    for name in ARRAYS:
                        store.get(name)
            case _:
                with source.open("rb") as file:
                    check_background(file, LIMITS)
                if is_picture(source):
                    read_background(source)
    except ForemaskError as error:
        return error.reason
    except NotACacheError:
        return "not a cache"
    return "read"


OPERATIONS: dict[type[Request[Any]], Executor] = {
    **execution.OPERATIONS,
    Make: partial(make, masker=bright_is_foreground),
    Read: read,
}
"""The probe of the API's child, a masker that costs nothing, and readers of other files."""


@dataclass(frozen=True, slots=True)
class Case:
    row: str
    name: str
    data: bytes
    frames: int | None = None  # that the file had before it was cut
    limits: Limits = LIMITS
    wall_clock_s: float = WALL_CLOCK_S


@dataclass(frozen=True, slots=True)
class Ending:
    """How a case ended; ``wrong`` says what is wrong with that."""

    case: Case
    how: str
    seconds: float
    wrong: str = ""


def drawn(folder: Path) -> dict[str, bytes]:
    mjpeg = synth.Spec(codec="mjpeg", pixel_format="yuvj420p", full_range=True)
    specs = {
        "mp4 h264": ("a.mp4", synth.Spec(sound=(synth.Tone(),))),
        "mp4 hevc": ("b.mp4", synth.Spec(codec="hevc")),
        "mov mjpeg": ("c.mov", mjpeg),
        "webm vp9": ("d.webm", synth.Spec(codec="vp9", sound=(synth.Tone("opus"),))),
        "avi mjpeg": ("e.avi", mjpeg),
        "gif": ("f.gif", synth.Spec(codec="gif", pixel_format="rgb8")),
        "mp4 faststart": ("g.mp4", synth.Spec(muxer_options={"movflags": "faststart"})),
        "mp4 fragmented": ("h.mp4", synth.Spec(muxer_options={"movflags": FRAGMENTS})),
    }
    made = {name: synth.write(folder / file, spec) for name, (file, spec) in specs.items()}
    made["mp4 av1"] = shortened(MEDIA / "derived" / "av1_10bit.mp4", folder / "i.mp4")
    return {name: path.read_bytes() for name, path in made.items()}


def shortened(source: Path, target: Path) -> Path:
    with av.open(str(source)) as opened, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(opened.streams.video[0], opaque=True)
        for packet in islice(opened.demux(video=0), 8):
            packet.stream = stream
            written.mux(packet)
    return target


def others(folder: Path, clip: Path) -> dict[str, bytes]:
    made = {"mask: mp4": folder / "mask.mp4"}
    synth.mask(clip, folder / "mask.mp4", masker=bright_is_foreground)
    for form in (Form.PNG_ZIP, Form.WEBM_VP9, Form.MOV_PRORESKS):
        made[f"cut-out: {form.suffix[1:]}"] = target = folder / f"out{form.suffix}"
        spec = JobSpec(kind=ResultKind.CUTOUT, form=form)
        synth.mask(clip, target, spec, bright_is_foreground)
    for suffix, mode in (("png", "RGBA"), ("jpg", "RGB"), ("webp", "RGB"), ("tiff", "RGB")):
        made[f"picture: {suffix}"] = folder / f"picture.{suffix}"
        Image.fromarray(synth.disc(64, 48, 0.5)[0]).convert(mode).save(made[f"picture: {suffix}"])
    made["kept results: zip"] = folder / "kept"
    with open_file_store(folder / "kept", {}, LIMITS.max_bytes) as store:
        for name in ARRAYS:
            store.setdefault(name, np.zeros((16, 12), np.uint8 if name == "plain" else np.float16))
        NetworkCache(store).finish()
    return {name: path.read_bytes() for name, path in made.items()}


def collected() -> Iterator[Case]:
    broken = ("bad_", "invalid", "cursed", "clearkey", "result.webm")
    for path in sorted(MEDIA.rglob("*")):
        if path.is_file() and path.stat().st_size < 4 << 20:
            row = "broken files" if any(word in path.name for word in broken) else "other files"
            yield Case(row, str(path.relative_to(MEDIA)), path.read_bytes())


FORBIDDEN = "/etc/passwd"
TEXTS = {
    "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{FORBIDDEN}\n#EXT-X-ENDLIST\n",
    "m3u8 over http": "#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n",
    "m3u8 after a byte order mark": f"\ufeff#EXTM3U\n#EXTINF:9,\nconcat:{FORBIDDEN}\n",
    "ffconcat": f"ffconcat version 1.0\nfile '{FORBIDDEN}'\n",
    "concat script": f"file '{FORBIDDEN}'\nduration 1\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "mpd": '<?xml version="1.0"?><MPD><Period><BaseURL>http://127.0.0.1:1/</BaseURL></Period></MPD>',
    "svg": f'<svg xmlns:x="http://www.w3.org/1999/xlink"><image x:href="file://{FORBIDDEN}"/></svg>',
    "asx": f'<asx><entry><ref href="file://{FORBIDDEN}"/></entry></asx>',
    "pls": f"[playlist]\nFile1={FORBIDDEN}\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:09,000\nhello\n",
    "ffmetadata": ";FFMETADATA1\ntitle=x\n",
    "html": "<!doctype html><p>Log in",
    "json": '{"error": "no"}',
    "postscript": f"%!PS\n{FORBIDDEN} (r) file\n",
    "shell": "#!/bin/sh\ntouch /tmp/taken\n",
}
MAGIC = {"zip": "504b0304", "gzip": "1f8b08", "elf": "7f454c46", "pdf": "25504446"}
MAGIC["png"] = "89504e470d0a1a0a"


def disguised(good: dict[str, bytes]) -> Iterator[Case]:
    """Playlists, documents and archives, and clips whose data are in another file."""
    mp4 = good["mp4 h264"]
    files = {name: text.encode() + b"\n" * 2000 for name, text in TEXTS.items()}
    for name, text in TEXTS.items():
        files[f"{name} after a clip's first bytes"] = mp4[:32] + text.encode()
    files |= {name: bytes.fromhex(first) + bytes(4000) for name, first in MAGIC.items()}
    own = b"url \0\0\0\1"  # the data are in this file
    for flags in (0, 1):
        elsewhere = mp4.replace(own, b"url \0\0\0" + bytes([flags]))
        files[f"mp4 with a data reference, flags {flags}"] = elsewhere
    path = f"file://{FORBIDDEN}\0".encode()
    reference = struct.pack(">I", 12 + len(path)) + b"url \0\0\0\0" + path
    files["mp4 that refers to a file"] = grown(mp4, own, reference)
    alias = struct.pack(">I", 12 + 150) + b"alis\0\0\0\0" + bytes(20)
    alias += FORBIDDEN.encode().ljust(130, b"\0")
    files["mov that refers to an alias"] = grown(good["mov mjpeg"], own, alias)
    yield from (Case("disguises", name, data) for name, data in files.items())


def grown(data: bytes, mark: bytes, box: bytes) -> bytes:
    """Replace the box around ``mark``, and adapt the sizes of its parent boxes."""
    at = data.find(mark) - 4
    if at < 0:
        return data
    more = len(box) - int.from_bytes(data[at : at + 4], "big")
    out = bytearray(data[:at] + box + data[at + int.from_bytes(data[at : at + 4], "big") :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        found = out.find(name) - 4
        if found >= 0:
            size = int.from_bytes(out[found : found + 4], "big") + more
            out[found : found + 4] = size.to_bytes(4, "big")
    return bytes(out)


def bombs() -> Iterator[Case]:
    """Small GIFs that declare up to 60,000 frames, or 65535 x 65535 px."""
    for side, frames in ((16000, 2000), (16000, 1), (65535, 1), (65535, 2000), (4000, 60_000)):
        head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
        control = b"\x21\xf9\4\4\2\0\0\0"
        for name, part_px in (("", 1), (", whole", side)):
            part = b"\x2c" + struct.pack("<HHHHB", 0, 0, part_px, part_px, 0) + b"\2\2\x44\1\0"
            data = head + (control + part) * frames + b"\x3b"
            yield Case("gif bombs", f"{frames} x {side}{name}", data)


def extremes() -> Iterator[Case]:
    """The largest sides, and too many frames for the service; a command takes those, too."""
    for side, frames, fps in ((16_000, 8, 4), (64, 7200, 120)):
        yield Case("extremes", f"{frames} x {side}", jpegs(side, frames, fps), wall_clock_s=LONG_S)
    for name, data in (
        ("100000 x 64", jpegs(64, 100_000, 2000)),
        ("65536 x 64 gif", long_gif(64, 65_536)),
    ):
        yield Case("extremes", name, data)
        yield Case("extremes", f"{name}, no limit", data, None, UNLIMITED, LONG_S)


def jpegs(side: int, frames: int, fps: int) -> bytes:
    """A MOV of one JPEG again and again."""
    jpeg = cv2.imencode(".jpg", banded(side))[1].tobytes()
    written = io.BytesIO()
    with av.open(written, "w", format="mov") as file:
        track = file.add_stream("mjpeg", rate=fps)
        track.width = track.height = side
        track.pix_fmt = "yuvj420p"
        for number in range(frames):
            packet = av.Packet(jpeg)
            packet.stream = track
            packet.time_base = Fraction(1, fps)
            packet.pts = packet.dts = number
            packet.duration = 1
            file.mux(packet)
    return written.getvalue()


def long_gif(side: int, frames: int) -> bytes:
    written = io.BytesIO()
    with av.open(written, "w", format="gif") as file:
        track = file.add_stream("gif", rate=50)
        track.width = track.height = side
        track.pix_fmt = "gray"
        for number in range(frames):
            picture = np.roll(banded(side), number, axis=0)
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame.pts = number
            file.mux(track.encode(frame))
        file.mux(track.encode())
    return written.getvalue()


def banded(side: int) -> NDArray[np.uint8]:
    picture = np.full((side, side), 90, np.uint8)
    picture[side // 4 : side // 2] = 220
    return picture


def giants(good: dict[str, bytes]) -> Iterator[Case]:
    """Headers that declare 65535 px, or the largest value of their field, in both directions."""
    width, height = synth.Spec().width, synth.Spec().height
    files: dict[str, bytes] = {}
    for name, data in good.items():
        for big in (16001, 32768, 65535):
            for order in (">HH", "<HH", ">HxxH", "<II", ">II"):
                small = struct.pack(order, width, height)
                if small in data:
                    large = struct.pack(order, big, big)
                    files[f"{name} {order} {big}"] = data.replace(small, large)
    element = b"\xb0\x81" + bytes([width])
    files["webm element"] = good["webm vp9"].replace(element, b"\xb0\x82\xff\xff")
    for mark in (b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x08"):  # a JPEG's own header
        for name in ("mov mjpeg", "avi mjpeg"):
            data, at = good[name], good[name].find(mark)
            if at >= 0:
                files[f"{name} SOF"] = data[: at + 5] + b"\xff\xff\xff\xff" + data[at + 9 :]
    yield from (Case("65535 headers", name, data) for name, data in files.items())


def truncated(good: dict[str, bytes], dice: random.Random) -> Iterator[Case]:
    for name, data in good.items():
        with av.open(io.BytesIO(data), "r") as whole:
            frames = sum(1 for _ in whole.decode(video=0))
        for at in sorted(dice.sample(range(1, len(data)), 50)):
            yield Case(f"truncated {name}", f"at {at} of {len(data)}", data[:at], frames)


def mutated(good: dict[str, bytes], dice: random.Random, count: int) -> Iterator[Case]:
    """Change 1 to 64 random bytes of the whole file or of a header; every 64th file stays whole."""
    names = list(good)
    for number in range(count):
        name = names[number % len(names)]
        data = bytearray(good[name])
        first = dice.choice((0, 0, max(0, len(data) - 4096)))
        last = dice.choice((min(len(data), first + 4096), len(data)))
        for _ in range(dice.choice((1, 1, 2, 4, 16, 64)) if number // len(names) % 64 else 0):
            data[dice.randrange(first, last)] = dice.choice((0, 255, 128, dice.randrange(256)))
        yield Case(f"mutated {name}", f"number {number}", bytes(data))


async def end_of(case: Case, pool: MediaPool, folder: Path, memory_bytes: int) -> Ending:
    """Probe the bytes as the API does, then mask them as a worker does; only read other files."""
    began_s = time.monotonic()

    async def read_at(offset: int, size: int) -> bytes:
        return case.data[offset : offset + size]

    def ended(how: str, wrong: str = "") -> Ending:
        return Ending(case, how, time.monotonic() - began_s, wrong)

    source, target = folder / f"{abs(hash(case))}.clip", folder / f"{abs(hash(case))}.mp4"
    kind, _, is_other = case.row.removeprefix("mutated ").partition(": ")
    try:
        if is_other:
            await asyncio.to_thread(source.write_bytes, case.data)
            request = Read(kind, source, folder / "good.mp4", target)
            return ended(await pool.run(request, wall_clock_s=WALL_CLOCK_S))
        limits = replace(case.limits, memory_bytes=memory_bytes)
        probing = Probe(None, limits, form=JobSpec().form, size=len(case.data))
        clip = await pool.run(probing, read_at=read_at, wall_clock_s=WALL_CLOCK_S)
        await asyncio.to_thread(source.write_bytes, case.data)
        files = Files(source=source, target=target)
        make_mask = Make(JobSpec(), files, Resources(limits=limits))
        report = await pool.run(make_mask, wall_clock_s=case.wall_clock_s)
        wrong = await asyncio.to_thread(untruth, case, clip, report, target)
    except Failed as error:
        if error.limit == memory_bytes:
            return ended("over the memory limit")
        return ended(error.reason, f"{error} {getattr(error, '__notes__', '')}")
    except ForemaskError as error:
        return ended(error.reason)
    except ChildDied as died:
        return ended("child died", f"{died} {died.__notes__}")
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
    if wrong:
        return ended("masked untruly", wrong)
    return ended("masked with a warning" if report.warnings else "masked")


def untruth(case: Case, clip: Clip | None, report: Report, target: Path) -> str:
    """Say how the mask differs from its report; an empty string if it does not."""
    shown = len(synth.shown_at(target))
    if shown != report.frames_out or report.frames_in != report.frames_out:
        return f"{report.frames_in} in, {report.frames_out} out, {shown} in the file"
    declared = case.frames if case.frames is not None else clip and clip.frames
    if declared is not None and shown != declared and not report.warnings:
        return f"{declared} frames were there once, {shown} came, and nothing is said of it"
    return ""


async def endings_of(
    cases: list[Case], good: bytes, seconds: float, memory_bytes: int
) -> tuple[str, list[Ending]]:
    """Run the cases for at most ``seconds``; return the level of the sandbox and all endings."""
    waiting, endings, until = iter(cases), list[Ending](), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "good.mp4").write_bytes(good)
        async with MediaPool(
            folder / "slots",
            slots=SLOTS,
            sandbox=Sandbox.REQUIRE,
            memory_bytes=memory_bytes,
            execution="benchmarks.endurance.hostile",
            import_from=[ROOT],
        ) as pool:
            level = str(pool.level)

            async def work() -> None:
                for case in takewhile(lambda _: time.monotonic() < until, waiting):
                    endings.append(await end_of(case, pool, folder, memory_bytes))
                    if len(endings) % 100 == 0:
                        print(f"{len(endings)} of {len(cases)}", file=sys.stderr, flush=True)

            await asyncio.gather(*(work() for _ in range(SLOTS)))
    return level, endings


def main(
    *, mutations: int = 2000, seed: int = 1, seconds: float = 1e9, only: str = "", gib: int = 3
) -> int:
    if not MEDIA.is_dir():
        raise SystemExit(f"{MEDIA} is not there: set FOREMASK_DATA")
    dice = random.Random(seed)  # noqa: S311
    with tempfile.TemporaryDirectory() as name:
        good = drawn(Path(name))
        more = others(Path(name), Path(name) / "a.mp4")
    cases = [
        *collected(),
        *disguised(good),
        *bombs(),
        *extremes(),
        *giants(good),
        *truncated(good, dice),
        *mutated(good | more, dice, mutations),
    ]
    cases = [case for case in cases if case.row.startswith(only)]
    level, endings = asyncio.run(endings_of(cases, good["mp4 h264"], seconds, gib << 30))
    rows: dict[str, list[Ending]] = defaultdict(list)
    for each in endings:
        rows[each.case.row].append(each)
    header("files", "number", "how they ended", "slowest, s")
    for name, some in sorted(rows.items()):
        hows = Counter(each.how for each in some).most_common()
        how = ", ".join(f"{count} {word}" for word, count in hows)
        row(name, len(some), how, f"{max(each.seconds for each in some):.1f}")
    wrong = [each for each in endings if each.wrong]
    died = sum(each.how == "child died" for each in endings)
    spent_s = sum(each.seconds for each in endings)
    print(f"\n{len(endings)} files in {spent_s:.0f} s of {SLOTS} children, {level}.")
    print(f"Dead parents: 0. Dead children: {died}. Wrong endings: {len(wrong)}.")
    for each in wrong:
        how = f"{each.how}, {each.seconds:.1f} s: {each.wrong}"
        print(f"- {each.case.row}, {each.case.name}: {how}")
    return 1 if wrong else 0


if __name__ == "__main__":
    run(main, __doc__)
