"""Masks every development clip in every preset with a drawn masker, verifies it, and writes the table.

``python -m benchmarks.quality.promises [--seconds 100] [--presets a,b] [NAME…]`` prints what it
finds. What was found is kept, so that it can be run in pieces: with ``--seconds`` it begins no clip
later than that, and exits with 3 while clips are left. Found by other code than today's, it is
found again. Once everything is there the table goes into docs/media.md, between its marks. The
network has no part in it.

With ``--cutouts`` it makes cut-outs instead, in each format with alpha that has sound or times of
its own, and prints how many kept their promises.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tests.support.synth import stretched

import foremask
from foremask.errors import ForemaskError
from foremask.facts import Report
from foremask.masking.cut_out import cut_out
from foremask.masking.pipeline import mask_video
from foremask.media.verify import verify
from foremask.options import AlphaFormat, CutOutOptions, Limits, MaskOptions, Preset, ResultKind
from foremask.types import Alpha, Image

DATA = Path(os.environ.get("FOREMASK_DATA", "../shared/data")) / "media"
PAGE = Path(__file__).parents[2] / "docs" / "media.md"
BEGIN, END = "<!-- table: python -m benchmarks.quality.promises -->", "<!-- end of table -->"
BAD = ("CRASH", "HANG", "DIED", "promise_broken")
KEPT = PAGE.parent.parent / "scratch" / "media.jsonl"
CODE = Path(foremask.__file__).parent
TIMEOUT_S = 600
TO_GO_ON = 3
CUTOUT = "cutout:"
CUTOUTS = [
    CUTOUT + form
    for form in (
        AlphaFormat.WEBM_VP9,
        AlphaFormat.MKV_VP9,
        AlphaFormat.MOV_PRORESKS,
        AlphaFormat.GIF,
        AlphaFormat.APNG,
        AlphaFormat.WEBP,
    )
]


def bright_is_foreground(images: Iterable[Image], /) -> Iterator[Alpha]:
    """Any mask will do here; this one costs nothing."""
    for image in images:
        rgb = image.rgb(min(256, image.width), min(256, image.height))
        yield np.divide(rgb[:, :, 1], 255, dtype=np.float32)


def made(source: Path, folder: Path, name: str) -> tuple[Path, Report, ResultKind]:
    """The mask or the cut-out that ``name`` stands for."""
    limits = Limits()
    if name.startswith(CUTOUT):
        form = AlphaFormat(name.removeprefix(CUTOUT))
        target = folder / f"cutout{form.suffix}"
        options = CutOutOptions(preset=form, limits=limits)
        report = cut_out(source, target, options, masker=bright_is_foreground, refiner=stretched)
        return target, report, ResultKind.CUTOUT
    preset = Preset(name)
    target = folder / f"mask{preset.suffix}"
    report = mask_video(
        source,
        target,
        MaskOptions(preset=preset, limits=limits),
        masker=bright_is_foreground,
        refiner=stretched,
    )
    return target, report, ResultKind.MASK


def one(source: Path, name: str) -> dict[str, object]:
    """Make and verify one result of one clip; never raises."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            target, report, kind = made(source, Path(folder), name)
            kept = verify(source, target, kind)
            pts = next(check.found for check in kept if check.promise == "pts")
            message = {"verdict": "kept", "frames": report.frames_out, "pts": pts}
            message["audio"] = " ".join(f"{t.codec}→{t.written_as or 'none'}" for t in report.audio)
            message["warnings"] = list(report.warnings)
        except ForemaskError as error:
            message = {"verdict": error.reason, "details": error.details}
            message["param"] = error.param
        except Exception as error:  # noqa: BLE001  (that none gets here is what is measured)
            message = {"verdict": "CRASH", "details": repr(error)}
    message["seconds"] = round(time.monotonic() - started, 2)
    message["rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return message


def in_child(source: Path, presets: list[str]) -> dict[str, dict[str, object]]:
    """All presets of one clip in a process of its own, each bounded in time."""
    command = [sys.executable, "-m", "benchmarks.quality.promises", "--child", str(source)]
    command += presets
    try:
        ran = subprocess.run(  # noqa: S603
            command, capture_output=True, timeout=TIMEOUT_S * len(presets), check=False
        )
    except subprocess.TimeoutExpired as late:
        ran_out, hung = late.stdout or b"", True
    else:
        ran_out, hung = ran.stdout, False
    found = {}
    for line in ran_out.decode().splitlines():
        name, message = json.loads(line)
        found[name] = message
    for preset in presets:
        found.setdefault(preset, {"verdict": "HANG" if hung else "DIED"})
    return found


def code() -> str:
    """Names the code that what is found was found by."""
    files = [*sorted((CODE / "media").glob("*.py")), CODE / "masking" / "pipeline.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def kept() -> dict[str, dict[str, dict[str, object]]]:
    """What this code has found so far, by clip and preset."""
    found: dict[str, dict[str, dict[str, object]]] = {}
    if KEPT.exists():
        for line in KEPT.read_text().splitlines():
            by, name, message = json.loads(line)
            if by == code():
                found.setdefault(name, {}).update(message)
    return found


def _bytes(path: Path) -> int:
    """The small ones come first: most is known early."""
    return path.stat().st_size


def keep(name: str, found: dict[str, dict[str, object]]) -> None:
    KEPT.parent.mkdir(exist_ok=True)
    with KEPT.open("a") as file:
        file.write(json.dumps([code(), name, found]) + "\n")


def cell(message: dict[str, object] | None) -> str:
    if message is None:
        return ""
    verdict = str(message["verdict"])
    if verdict == "kept":
        return f"✓ {str(message['pts']).removeprefix('within ')}"
    return f"{message.get('code', '')} {verdict}" + (
        f" ({message['param']})" if verdict == "promise_broken" else ""
    )


def table(results: dict[str, dict[str, dict[str, object]]], presets: list[Preset]) -> str:
    rows = [
        "| clip | frames | " + " | ".join(preset.value for preset in presets) + " | warnings |",
        "|---" * (len(presets) + 3) + "|",
    ]
    for name, found in results.items():
        kept = [message for message in found.values() if message["verdict"] == "kept"]
        frames = kept[0]["frames"] if kept else "-"
        warnings = "; ".join(str(w) for w in kept[0]["warnings"]) if kept else ""  # type: ignore[attr-defined]
        cells = [cell(found.get(preset.value)) for preset in presets]
        if len(set(cells)) == 1 and not kept:
            cells = [cells[0], *[""] * (len(cells) - 1)]
        rows.append(f"| {name} | {frames} | {' | '.join(cells)} | {warnings} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--presets", default=",".join(Preset))
    parser.add_argument("--cutouts", action="store_true")
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    if asked.child:
        for preset in asked.names[1:]:
            print(json.dumps([preset, one(Path(asked.names[0]), preset)]), flush=True)
        return 0
    presets = (
        CUTOUTS if asked.cutouts else [Preset(name).value for name in asked.presets.split(",")]
    )
    clips = sorted((path for path in DATA.rglob("*") if path.is_file()), key=_bytes)
    if not clips:
        print(f"no clips in {DATA}; set FOREMASK_DATA", file=sys.stderr)
        return 2
    results = kept()
    began = time.monotonic()
    for clip in clips:
        name = str(clip.relative_to(DATA))
        if asked.names and not any(part in name for part in asked.names):
            continue
        missing = [preset for preset in presets if preset not in results.get(name, {})]
        if not missing:
            continue
        if asked.seconds and time.monotonic() - began > asked.seconds:
            print(f"{len(results)} of {len(clips)} clips; go on with the same command")
            return TO_GO_ON
        found = in_child(clip, missing)
        results.setdefault(name, {}).update(found)
        keep(name, found)
        for preset, message in found.items():
            reported = json.dumps(message, ensure_ascii=False)
            print(
                "BAD " if message["verdict"] in BAD else "    ", name, preset, reported, flush=True
            )
    broken = sum(
        message["verdict"] in BAD for found in results.values() for message in found.values()
    )
    print(f"{len(results)} clips, {broken} broken, code {code()}")
    if asked.cutouts:
        for name in CUTOUTS:
            verdicts = Counter(
                str(each[name]["verdict"]) for each in results.values() if name in each
            )
            print(f"{name:24} " + ", ".join(f"{n} {word}" for word, n in verdicts.most_common()))
        return 1 if broken else 0
    whole = [
        [p for p in Preset if p not in results.get(str(c.relative_to(DATA)), {})] for c in clips
    ]
    if not any(whole):
        page = PAGE.read_text()
        before, _, rest = page.partition(BEGIN)
        ordered = {name: results[name] for name in sorted(results)}
        PAGE.write_text(
            f"{before}{BEGIN}\n{table(ordered, list(Preset))}\n{END}{rest.partition(END)[2]}"
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
