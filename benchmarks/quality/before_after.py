"""A page that shows two sets of masks of the same clips side by side, the worst moments first.

``python -m benchmarks.quality.before_after CLIPS BEFORE AFTER --out FOLDER`` writes
``FOLDER/index.html`` and its contact sheets. CLIPS is a folder of videos or of clips in DAVIS
layout; BEFORE and AFTER have for each a mask of the same name (without its ending;
``clip.mask.mp4`` and ``clip.npy`` are masks of ``clip``). A row of a sheet is one frame: source,
before, after, difference (red was in the mask and is no longer, green is new).
`benchmarks.quality.steadiness` says which frames are worst.
"""

import argparse
import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.quality.steadiness import Event, Steadiness, measured_size, steadiness
from benchmarks.quality.streams import VIDEOS, frames_of, frames_per_second, masks_of
from foremask.types import Levels, Rgb
from foremask.vision.drawing import stacked

CELL_PX = 360  # the width of one picture on a sheet
LABEL_PX = 18
ROWS = 12  # on a sheet, at most
APART_FRAMES = 12  # between two of the worst frames
RED, GREEN, YELLOW = (235, 60, 50), (60, 200, 90), (255, 210, 0)
SIDES = ("before", "after")


@dataclass(frozen=True, slots=True)
class Case:
    """One clip with both of its masks."""

    name: str
    source: Path
    before: Path
    after: Path


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of one clip; ``change`` is the mean difference of each frame's masks in percent."""

    case: Case
    fps: float
    results: tuple[Steadiness, Steadiness]
    change: tuple[float, ...]

    def worst(self, count: int) -> list[int]:
        """The frames with the most faults after, some frames apart, the worst first."""
        return peaks(self.results[1].badness, count)

    def most_changed(self, count: int) -> list[int]:
        """The frames on which the masks differ most."""
        return peaks(self.change, count)


def peaks(values: Sequence[float], count: int) -> list[int]:
    """The places of the largest values, each `APART_FRAMES` or more from the others; nothing is no peak."""
    left = np.array(values, np.float64)
    found: list[int] = []
    while len(found) < count and left.size and left.max() > 0:
        at = int(left.argmax())
        found.append(at)
        left[max(0, at - APART_FRAMES + 1) : at + APART_FRAMES] = 0
    return found


def name_of(path: Path) -> str:
    """The clip's name, of a source or of a mask."""
    return path.name if path.is_dir() else path.name.removesuffix(path.suffix).removesuffix(".mask")


def cases_in(clips: Path, before: Path, after: Path) -> list[Case]:
    """The clips that have both masks, by name; an error when there is none."""
    masks = [{name_of(each): each for each in _clips(folder)} for folder in (before, after)]
    cases = [
        Case(name_of(source), source, masks[0][name_of(source)], masks[1][name_of(source)])
        for source in _clips(clips)
        if all(name_of(source) in side for side in masks)
    ]
    if not cases:
        raise SystemExit(f"no clip of {clips} has a mask of its name in both {before} and {after}")
    return cases


def _clips(folder: Path) -> list[Path]:
    kinds = (*VIDEOS, ".npy")
    return sorted(each for each in folder.iterdir() if each.is_dir() or each.suffix in kinds)


def look_at(case: Case) -> Found:
    """Measure both masks of a clip, and how much they differ, in one pass."""
    change: list[float] = []
    kept: list[Levels] = []

    def first() -> Iterator[Levels]:
        for mask in masks_of(case.before):
            kept[:] = [mask]
            yield mask

    def second() -> Iterator[Levels]:
        for mask in masks_of(case.after):
            size = measured_size(mask.shape[1], mask.shape[0])
            a, b = (
                cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (kept[0], mask)
            )
            change.append(100 * float(cv2.absdiff(a, b).mean()) / 255)
            yield mask

    fps = frames_per_second(case.source)
    before, after = steadiness(frames_of(case.source), first(), second(), fps=fps)
    return Found(case, fps, (before, after), tuple(change))


def difference(rgb: Rgb, before: Levels, after: Levels) -> Rgb:
    """The picture in dark grey, with what is no longer in the mask in red and what is new in green."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None] * 0.4
    change = after.astype(np.float32)[..., None] - before.astype(np.float32)[..., None]
    colour = np.where(change < 0, np.array(RED), np.array(GREEN))
    share = np.abs(change) / 255
    return np.rint(grey * (1 - share) + colour * share).astype(np.uint8)


def row(found: Found, number: int, rgb: Rgb, before: Levels, after: Levels) -> Rgb:
    """One frame with both masks, labelled; boxes are events of the mask after."""
    size = (CELL_PX, max(2, round(rgb.shape[0] * CELL_PX / rgb.shape[1])))
    image, first, second = (
        np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_AREA), np.uint8)
        for each in (rgb, before, after)
    )
    changed = difference(image, first, second)
    marked = np.ascontiguousarray(image)
    for event in found.results[1].events:
        if event.first_frame <= number <= event.last_frame:
            left, top, right, bottom = event.box
            start = round(left * size[0]), round(top * size[1])
            end = round(right * size[0]), round(bottom * size[1])
            cv2.rectangle(marked, start, end, YELLOW, 1)
    cells = [marked, *(np.repeat(each[..., None], 3, axis=2) for each in (first, second)), changed]
    labels = [f"{number} {number / found.fps:.2f} s", *_faults(found, number), ""]
    for cell, label in zip(cells, labels, strict=True):
        cell[:LABEL_PX, : 8 * len(label)] = 0
        at, font = (4, LABEL_PX - 5), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(cell, label, at, font, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return np.hstack(cells)


def _faults(found: Found, number: int) -> list[str]:
    return [
        f"{side} {result.badness[number]:.1f}"
        for side, result in zip(SIDES, found.results, strict=True)
    ]


def rows_of(found: Found, numbers: Iterable[int]) -> dict[int, Rgb]:
    """The rows of some frames."""
    wanted = set(numbers)
    case, rows = found.case, dict[int, Rgb]()
    streams = (frames_of(case.source), masks_of(case.before), masks_of(case.after))
    for number, (rgb, *masks) in enumerate(zip(*streams, strict=False)):
        if number in wanted:
            rows[number] = row(found, number, rgb, *masks)
    return rows


def sheets(rows: list[Rgb], folder: Path, name: str, suffix: str) -> list[str]:
    """Write rows as sheets of `ROWS`; answers the files' names."""
    names = []
    for first in range(0, len(rows), ROWS):
        file = f"{name}-{first // ROWS + 1}{suffix}"
        quality = [cv2.IMWRITE_WEBP_QUALITY, 85] if suffix == ".webp" else []
        sheet = stacked(rows[first : first + ROWS])
        if not cv2.imwrite(str(folder / file), sheet[..., ::-1], quality):
            raise SystemExit(f"{folder / file} cannot be written")
        names.append(file)
    return names


MEASURES = (
    ("ghost", lambda s: s.ghost),
    ("vanish", lambda s: s.vanish),
    ("appear", lambda s: s.appear),
    ("jumps", lambda s: s.jumps),
    ("lost 32", lambda s: s.lost[32]),
    ("gained 32", lambda s: s.gained[32]),
    ("unsettled", lambda s: s.unsettled),
    ("flaps", lambda s: s.flaps),
    ("events", lambda s: len(s.events)),
    ("followed", lambda s: s.followed),
)

HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Masks before and after</title>
<meta name="viewport" content="width=device-width">
<style>
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:1480px;padding:0 1rem;background:#fff;color:#222}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}.worse{color:#b00020}.better{color:#0a7a33}
img{max-width:100%;display:block;margin:.4rem 0}h2{margin-top:2.4rem}summary{cursor:pointer}
</style>
<h1>Masks before and after</h1>
<p>Each row is one frame: source (with boxes round parts that enter or leave the mask after while they are visible),
before, after, difference (red was in the mask and is no longer, green is new). The numbers on the masks are the faults of
that frame. What the measures mean: <code>benchmarks/quality/steadiness.py</code>. Smaller is better, but for <i>followed</i>.</p>
"""


def _table(found: Sequence[Found]) -> str:
    lines = ["<table><tr><th>clip<th>", *(f"<th>{name}" for name, _ in MEASURES), "</tr>"]
    for each in found:
        name = html.escape(each.case.name)
        for side, result in zip(SIDES, each.results, strict=True):
            lines.append(f'<tr><td><a href="#{name}">{name}</a><td>{side}')
            for title, value in MEASURES:
                now, was = value(result), value(each.results[0])
                better = now > was if title == "followed" else now < was
                css = "" if now == was else "better" if better else "worse"
                lines.append(f'<td class="{css}">{now:g}')
            lines.append("</tr>")
    return "".join([*lines, "</table>"])


def _events(found: Found) -> str:
    def line(side: str, event: Event) -> str:
        first, last = event.first_frame / found.fps, event.last_frame / found.fps
        return (
            f"<tr><td>{side}<td>{event.kind}<td>{first:.2f} to {last:.2f} s<td>{event.area} %"
            f"<td>{', '.join(f'{each:.2f}' for each in event.box)}</tr>"
        )

    lines = [
        line(side, event)
        for side, result in zip(SIDES, found.results, strict=True)
        for event in result.events[:8]
    ]
    head = "<tr><th>mask<th>visible part<th>when<th>of the picture<th>left, top, right, bottom</tr>"
    return f"<details><summary>Parts that enter or leave</summary><table>{head}{''.join(lines)}</table></details>"


def page(found: list[Found], folder: Path, step: int, worst: int, suffix: str) -> Path:
    """Write the page and its sheets; the clips with the most faults after come first."""
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(found, key=lambda each: -float(np.mean(each.results[1].badness)))
    parts = [HEAD, _table(found)]
    for each in found:
        name = html.escape(each.case.name)
        chosen = {
            "worst after": each.worst(worst),
            "most changed": each.most_changed(worst),
            f"every {step}th frame": list(range(0, each.results[0].frames, step)),
        }
        rows = rows_of(each, [number for numbers in chosen.values() for number in numbers])
        parts += [f'<h2 id="{name}">{name}</h2>', _events(each)]
        for title, numbers in chosen.items():
            stem = f"{each.case.name}-{title.replace(' ', '-')}"
            files = sheets([rows[number] for number in numbers], folder, stem, suffix)
            parts.append(f"<h3>{title[0].upper() + title[1:]}</h3>")
            parts += [
                f'<img loading="lazy" src="{html.escape(file)}" alt="{name}, {title}">'
                for file in files
            ]
    target = folder / "index.html"
    target.write_text("\n".join([*parts, "</html>\n"]))
    return target


def main() -> None:
    """Measure, draw, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/before_after"))
    parser.add_argument("--step", type=int, default=10, help="show every Nth frame")
    parser.add_argument("--worst", type=int, default=6, help="how many of the worst frames")
    parser.add_argument("--format", choices=("webp", "png"), default="webp")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    found = []
    for case in cases_in(args.clips, args.before, args.after):
        found.append(look_at(case))
        for side, result in zip(SIDES, found[-1].results, strict=True):
            numbers = "  ".join(f"{name} {value(result):g}" for name, value in MEASURES)
            print(f"{case.name:20} {side:7} {numbers}", flush=True)
    print(page(found, args.out, args.step, args.worst, f".{args.format}"))


if __name__ == "__main__":
    main()
