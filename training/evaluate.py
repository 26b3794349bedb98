"""Measure the exported network on pictures and clips that it was not trained on.

    python -m training.evaluate EXPORTED WEIGHTS ARCHIVES CLIPS RESULT

It runs in foremask's own environment: the flow that moves masks is foremask's. CLIPS holds folders
of clips (`frames/*`, `masks/*.png`). Clicks follow RITM's rule: each in the middle of the largest
error.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import openvino
from numpy.typing import NDArray

from foremask.types import Flow
from foremask.vision.temporal.flow import FlowEstimator, chained, warp
from training.inference import PromptedSession
from training.pictures import UNKNOWN, Archive, Bgr, network_input
from training.places import Region, next_click
from training.prompts import Map, Prompt

MOST_CLICKS = 8
REPORTED_CLICKS = (1, 2, 3, 5)
GOOD_J = 0.85
DISTANCES = (6, 12)
"""Frames between a true mask and the frame that it is moved to."""
LEAST_THING = 0.01
ISNET_SIDE_PX = 1024


def jaccard(mask: Map, target: Region, known: Region) -> float:
    found = (mask > 0.5) & known
    wanted = target & known
    either = int((found | wanted).sum())
    if either == 0:
        return 1.0
    return int((found & wanted).sum()) / either


@dataclass
class Case:
    name: str
    group: str
    bgr: Bgr
    target: Region
    known: Region


def clips(folder: Path) -> Iterator[Path]:
    """Folders that have frames and masks, at any depth."""
    return (path.parent for path in sorted(folder.glob("**/masks")))


def frame_files(clip: Path) -> list[Path]:
    return sorted((clip / "frames").iterdir())


def true_mask(clip: Path, frame: Path) -> Region:
    mask = cv2.imread(str(clip / "masks" / f"{frame.stem}.png"), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise FileNotFoundError(f"{clip.name} has no mask of frame {frame.stem}")
    return mask > mask.max() / 2 if mask.any() else mask > 0


def spread(count: int, frames: int) -> list[int]:
    """Indices spread over the whole clip."""
    return sorted({int((i + 0.5) / count * frames) for i in range(count)})


def clip_cases(folder: Path, frames_a_clip: int) -> Iterator[Case]:
    for clip in clips(folder):
        files = frame_files(clip)
        for index in spread(frames_a_clip, len(files)):
            target = true_mask(clip, files[index])
            if target.any():
                bgr = cv2.imread(str(files[index]))
                name = f"{clip.name} {files[index].stem}"
                yield Case(name, "clips", bgr, target, np.ones_like(target))


def still_cases(archives: Path, count: int) -> Iterator[Case]:
    """Held-out things: alone in their picture, and one of several; as many of each source."""
    found = defaultdict(list)
    for name in ("voc", "coco", "pedestrians"):
        for picture in Archive(archives / f"{name}.zip", held_out=True):
            values, sizes = np.unique(picture.labels, return_counts=True)
            large = (values > 0) & (values < UNKNOWN) & (sizes >= LEAST_THING * picture.labels.size)
            things = values[large]
            if not len(things):
                continue
            group = "several" if len(things) > 1 else "subject"
            target = picture.labels == things[len(picture.name) % len(things)]
            known = picture.labels != UNKNOWN
            found[name, group].append(Case(picture.name, group, picture.bgr, target, known))
    for (_, group), cases in sorted(found.items()):
        sources = sum(1 for _, other in found if other == group)
        yield from cases[: -(-count // sources)]


def clicked(session: PromptedSession, case: Case, start: Map | None) -> list[dict[str, float]]:
    """J after each click, also that of the best of three masks and of the first pass alone."""
    stage2 = session.encode(case.bgr)
    answer = np.zeros(case.target.shape, np.float32) if start is None else start
    prompt = Prompt(earlier=start)
    rows: list[dict[str, float]] = []
    for number in range(1, MOST_CLICKS + 1):
        click = next_click(answer, case.target, case.known, None)
        if click is None:
            break
        prompt.clicks.append(click)
        candidates = session.answer(stage2, prompt, case.target.shape)
        first = candidates.best()
        answer = session.refine_on_crop(case.bgr, prompt, first)
        prompt.earlier = answer
        rows.append(
            {
                "final": jaccard(answer, case.target, case.known),
                "first pass": jaccard(first, case.target, case.known),
                "best of three": max(
                    jaccard(mask, case.target, case.known) for mask in candidates.masks
                ),
            }
        )
        good = any(row["final"] >= GOOD_J for row in rows)
        if number >= max(REPORTED_CLICKS) and good:
            break
    return rows


def summary(sessions: list[list[dict[str, float]]]) -> dict[str, float]:
    """J in percent after 1, 2, 3 and 5 clicks, and NoC85 with at most MOST_CLICKS."""
    sessions = [rows for rows in sessions if rows]
    means: dict[str, float] = {"sessions": len(sessions)}
    for kind in ("first pass", "final"):
        for clicks in REPORTED_CLICKS:
            values = [rows[min(clicks, len(rows)) - 1][kind] for rows in sessions]
            means[f"{kind}, J after {clicks}"] = round(100 * float(np.mean(values)), 1)
    best = [rows[0]["best of three"] for rows in sessions]
    means["best of three, J after 1"] = round(100 * float(np.mean(best)), 1)
    needed = [
        next((i + 1 for i, row in enumerate(rows) if row["final"] >= GOOD_J), MOST_CLICKS)
        for rows in sessions
    ]
    means["NoC85"] = round(float(np.mean(needed)), 2)
    return means


class IsNet:
    """The pulled network at its own size, without prompts."""

    def __init__(self, weights: Path, threads: int) -> None:
        settings = {"INFERENCE_NUM_THREADS": threads}
        self.network = openvino.Core().compile_model(weights, "CPU", settings)

    def __call__(self, bgr: Bgr) -> Map:
        mask = self.network([network_input(bgr, ISNET_SIDE_PX)[None]])[0][0, 0]
        return cv2.resize(mask, (bgr.shape[1], bgr.shape[0]), interpolation=cv2.INTER_LINEAR)


def flow_between(files: list[Path], here: int, there: int) -> Flow:
    """The displacement of each pixel of one frame to another, frame by frame."""
    step = 1 if there > here else -1
    greys = [
        cv2.cvtColor(cv2.imread(str(files[i])), cv2.COLOR_BGR2GRAY)
        for i in range(here, there + step, step)
    ]
    estimate = FlowEstimator()
    flow: Flow | None = None
    for one, other in pairwise(greys):
        next_flow = estimate(one, other)
        flow = next_flow if flow is None else chained(flow, next_flow)
    assert flow is not None
    return flow


def moved_masks(
    session: PromptedSession, folder: Path, frames_a_clip: int
) -> list[dict[str, object]]:
    """J of the moved true mask and of what the network makes of it, for each frame and distance."""
    rows: list[dict[str, object]] = []
    for clip in clips(folder):
        files = frame_files(clip)
        for index in spread(frames_a_clip, len(files)):
            target = true_mask(clip, files[index])
            if not target.any():
                continue
            bgr = cv2.imread(str(files[index]))
            stage2 = session.encode(bgr)
            known = np.ones_like(target)
            for distance in DISTANCES:
                source = index - distance if index >= distance else index + distance
                if source >= len(files):
                    continue
                earlier: NDArray[np.float32] = true_mask(clip, files[source]).astype(np.float32)
                moved = warp(earlier, flow_between(files, index, source))
                prompt = Prompt(earlier=moved)
                whole = session.answer(stage2, prompt, target.shape).best()
                refined = session.refine_on_crop(bgr, prompt, whole)
                masks = {"moved": moved, "first pass": whole, "final": refined}
                masks["mean of moved and final"] = (moved + refined) / 2
                reached = {name: jaccard(mask, target, known) for name, mask in masks.items()}
                rows.append({"clip": clip.name, "distance": distance, **reached})
    return rows


def moved_summary(rows: list[dict[str, object]]) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for distance in DISTANCES:
        of_distance = [row for row in rows if row["distance"] == distance]
        kinds = [kind for kind in of_distance[0] if kind not in {"clip", "distance"}]
        values = {kind: np.array([row[kind] for row in of_distance], float) for kind in kinds}
        entry = {kind: round(100 * float(each.mean()), 1) for kind, each in values.items()}
        entry["frames"] = len(of_distance)
        better = values["final"] > values["moved"]
        entry["frames where the final mask is better"] = int(better.sum())
        means[f"{distance} frames away"] = entry
    return means


class Report:
    """The result's file, written anew after each part: a measurement takes long on one core."""

    def __init__(self, path: Path, samples: int) -> None:
        self.path = path
        self.summary: dict[str, object] = {"samples": samples}
        self.details: dict[str, object] = {}

    def add(self, part: str, numbers: object, details: object) -> None:
        self.summary[part] = numbers
        self.details[part] = details
        print(part, json.dumps(numbers, indent=1), flush=True)
        self.path.write_text(json.dumps({"summary": self.summary, "details": self.details}))

    def add_sessions(self, part: str, sessions: dict[str, list[dict[str, float]]]) -> None:
        self.add(part, summary(list(sessions.values())), sessions)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("exported", "weights", "archives", "clips", "result"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--frames-a-clip", type=int, default=3)
    parser.add_argument("--stills", type=int, default=60, help="of each group")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--first-pass-only", action="store_true", help="no second pass on a crop: half the time"
    )
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    session = PromptedSession(
        arguments.exported, arguments.threads, refines=not arguments.first_pass_only
    )
    samples = int((arguments.exported / "samples.txt").read_text())
    report = Report(arguments.result, samples)
    moved = moved_masks(session, arguments.clips, max(1, arguments.frames_a_clip - 1))
    report.add("moved masks", moved_summary(moved), moved)
    frames = list(clip_cases(arguments.clips, arguments.frames_a_clip))
    report.add_sessions("clips", {c.name: clicked(session, c, None) for c in frames})
    stills = list(still_cases(arguments.archives, arguments.stills))
    for group in ("several", "subject"):
        of_group = [case for case in stills if case.group == group]
        found = {case.name: clicked(session, case, None) for case in of_group}
        report.add_sessions(f"stills, {group}", found)
    isnet = IsNet(arguments.weights, arguments.threads)
    masks = {case.name: isnet(case.bgr) for case in frames}
    alone = {case.name: jaccard(masks[case.name], case.target, case.known) for case in frames}
    mean = round(100 * float(np.mean(list(alone.values()))), 1)
    report.add("clips, IS-Net alone", mean, alone)
    sessions = {case.name: clicked(session, case, masks[case.name]) for case in frames}
    report.add_sessions("clips, on IS-Net's mask", sessions)


if __name__ == "__main__":
    main()
