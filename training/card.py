"""Measure the trained file that foremask has, and write its card.

    python -m training.card LOG ARCHIVES CLIPS

It runs in foremask's own environment, by foremask's network and flow. LOG is the training's .jsonl;
CLIPS holds folders of clips that were not trained on (`frames/*`, `masks/*.png`). The card keeps
the curve and the numbers of earlier sittings. Clicks follow RITM's rule: each in the middle of the
largest error.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from foremask.types import Flow
from foremask.vision.image import ArrayImage
from foremask.vision.network.finder import Click
from foremask.vision.network.prompted import PromptedNetwork, prompted_network, read_table
from foremask.vision.temporal.flow import FlowEstimator, chained, warp
from foremask.weights.catalogue import model_path
from training.pictures import SOURCES_THAT_JUDGE, UNKNOWN, Archive
from training.places import Region, next_click
from training.prompts import Map

CARD = Path(__file__).with_name("isnet_prompts.json")
SAMPLES_A_ROW = 500
PROMPTS = {
    "one click": ("click, 1 clicks",),
    "more clicks": ("click, ",),
    "automatic mask and clicks": ("automatic mask, ", "own answer, "),
    "moved mask": ("moved mask, ",),
    "small error": ("small error, ",),
    "other things": ("other things, ",),
    "box or stroke": ("box, ", "stroke, "),
}
"""Columns of the curve, by the beginnings of the log's names; the first that fits counts."""
REPORTED_CLICKS = (1, 2, 3, 5)
DISTANCES = (6, 12)
"""Frames between a true mask and the frame that it is moved to."""
LEAST_THING = 0.01


@dataclass
class Case:
    image: ArrayImage
    target: Region
    known: Region

    def jaccard(self, mask: Map) -> float:
        found = (mask > 0.5) & self.known
        wanted = self.target & self.known
        either = int((found | wanted).sum())
        return int((found & wanted).sum()) / either if either else 1.0


@dataclass
class Labelled:
    """A clip whose masks are known."""

    folder: Path

    def files(self) -> list[Path]:
        return sorted((self.folder / "frames").iterdir())

    def case(self, index: int) -> Case:
        file = self.files()[index]
        mask = cv2.imread(str(self.folder / "masks" / f"{file.stem}.png"), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise FileNotFoundError(f"{self.folder.name} has no mask of frame {file.stem}")
        target = mask > mask.max() / 2 if mask.any() else mask > 0
        image = ArrayImage(cv2.imread(str(file), cv2.IMREAD_COLOR_RGB))
        return Case(image, target, np.ones_like(target))

    def spread(self, count: int) -> list[int]:
        """Frames spread over the whole clip whose masks are not empty."""
        frames = len(self.files())
        indices = sorted({int((i + 0.5) / count * frames) for i in range(count)})
        return [index for index in indices if self.case(index).target.any()]

    def flow_between(self, here: int, there: int) -> Flow:
        """The displacement of each pixel of one frame to another, frame by frame."""
        step = 1 if there > here else -1
        greys = [
            cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            for file in (self.files()[i] for i in range(here, there + step, step))
        ]
        estimate = FlowEstimator()
        flow: Flow | None = None
        for one, other in pairwise(greys):
            next_flow = estimate(one, other)
            flow = next_flow if flow is None else chained(flow, next_flow)
        assert flow is not None
        return flow


def still_cases(archives: Path, count: int) -> dict[str, list[Case]]:
    """Held-out things: one of several, and alone in their picture; as many of each source."""
    found: dict[str, list[list[Case]]] = {"several": [], "subject": []}
    for name in ("voc", "coco", "pedestrians"):
        cases = defaultdict(list)
        for picture in Archive(archives / f"{name}.zip", held_out=True):
            values, sizes = np.unique(picture.labels, return_counts=True)
            large = (values > 0) & (values < UNKNOWN) & (sizes >= LEAST_THING * picture.labels.size)
            things = values[large]
            if len(things):
                target = picture.labels == things[len(picture.name) % len(things)]
                image = ArrayImage(np.ascontiguousarray(picture.bgr[..., ::-1]))
                case = Case(image, target, picture.labels != UNKNOWN)
                cases["several" if len(things) > 1 else "subject"].append(case)
        for group, some in cases.items():
            found[group].append(some)
    return {
        group: [case for cases in by_source for case in cases[: -(-count // len(by_source))]]
        for group, by_source in found.items()
    }


def clicked(network: PromptedNetwork, case: Case) -> list[float]:
    """J after each click; less than `REPORTED_CLICKS` where nothing is wrong any more."""
    answer: Map = np.zeros(case.target.shape, np.float32)
    clicks: list[Click] = []
    reached: list[float] = []
    for _ in range(max(REPORTED_CLICKS)):
        click = next_click(answer, case.target, case.known, None)
        if click is None:
            break
        clicks.append(Click(click.x, click.y, click.inside))
        if len(clicks) == 1:
            rows, columns = answer.shape
            answer = network.thing_at(case.image, clicks[0], (rows, columns))
        else:
            answer = network.find(case.image, answer, clicks)
        reached.append(case.jaccard(answer))
    return reached


def of_clicks(network: PromptedNetwork, cases: Sequence[Case]) -> dict[str, float]:
    sessions = [reached for case in cases if (reached := clicked(network, case))]
    means: dict[str, float] = {"sessions": len(sessions)}
    for clicks in REPORTED_CLICKS:
        values = [reached[min(clicks, len(reached)) - 1] for reached in sessions]
        means[f"J after {clicks}"] = percent(values)
    return means


def of_moved_masks(
    network: PromptedNetwork, clips: Sequence[Labelled], frames_a_clip: int
) -> dict[str, dict[str, float]]:
    """J of true masks of other frames, moved along the flow, and of what the network finds."""
    means = {}
    for distance in DISTANCES:
        moved: list[float] = []
        found: list[float] = []
        for clip in clips:
            for index in clip.spread(frames_a_clip):
                source = index - distance if index >= distance else index + distance
                if source < len(clip.files()):
                    case = clip.case(index)
                    earlier = clip.case(source).target.astype(np.float32)
                    mask = warp(earlier, clip.flow_between(index, source))
                    moved.append(case.jaccard(mask))
                    found.append(case.jaccard(network.find(case.image, mask)))
        means[f"{distance} frames away"] = {"moved": percent(moved), "found": percent(found)}
    return means


def percent(values: Sequence[float]) -> float:
    return round(100 * float(np.mean(values)), 1)


def curve_rows(log: Path, after_samples: int, until_samples: int) -> Iterator[dict[str, float]]:
    """Mean J in percent of training answers, a row for each SAMPLES_A_ROW samples."""
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    begin = after_samples
    for line in log.read_text().splitlines():
        facts = json.loads(line)
        if not after_samples < facts["samples"] <= until_samples:
            continue
        for prompt, (mean, count) in facts["j"].items():
            column = next(name for name, starts in PROMPTS.items() if prompt.startswith(starts))
            sums[column] += mean * count
            counts[column] += count
        if facts["samples"] - begin >= SAMPLES_A_ROW:
            means = {name: round(sums[name] / counts[name], 1) for name in PROMPTS if counts[name]}
            yield {"samples": facts["samples"], **means}
            begin = facts["samples"]
            sums.clear()
            counts.clear()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("log", "archives", "clips"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--frames-a-clip", type=int, default=3)
    parser.add_argument("--stills", type=int, default=60, help="of each group")
    arguments = parser.parse_args()
    card = json.loads(CARD.read_text())
    table = read_table()
    samples, pictures, steps = (int(each) for each in table["counts"])
    network = prompted_network(model_path())
    clips = [Labelled(path.parent) for path in sorted(arguments.clips.glob("**/masks"))]
    frames = [clip.case(index) for clip in clips for index in clip.spread(arguments.frames_a_clip)]
    numbers: dict[str, object] = {
        "moved masks": of_moved_masks(network, clips, max(1, arguments.frames_a_clip - 1)),
        "clips": of_clicks(network, frames),
    }
    for group, cases in still_cases(arguments.archives, arguments.stills).items():
        numbers[f"stills, {group}"] = of_clicks(network, cases)
    data: dict[str, dict[str, int]] = {}
    for archive in sorted(arguments.archives.glob("*.zip")):
        data[archive.stem] = {"held out": len(Archive(archive, held_out=True))}
        if archive.stem not in SOURCES_THAT_JUDGE:
            data[archive.stem]["trained on"] = len(Archive(archive, held_out=False))
    last = int(card["curve"][-1]["samples"])
    card |= {
        "samples": samples,
        "pictures": pictures,
        "steps": steps,
        "values": sum(each.size for name, each in table.items() if name != "counts"),
        "data": data,
        "curve": [*card["curve"], *curve_rows(arguments.log, last, samples)],
        "numbers": card["numbers"] | {f"at {samples} samples": numbers},
    }
    CARD.write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
