"""How good the masks are: every tier against the same network run frame by frame, on the same clips.

``python -m benchmarks.quality.tiers [--data FOLDER ...]`` prints the tables of docs/quality.md. A folder in DAVIS layout is scored against its truth and measured for steadiness;
of a folder of videos, only steadiness is known. ``--rvm`` adds what Robust Video Matting, which
knows people only, makes of the same clips.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks import machine
from benchmarks.clips import DATA, Clip, clips_in
from benchmarks.quality.scores import Scores, score
from benchmarks.quality.steadiness import Steadiness, steadiness
from benchmarks.speed.peers import Peers
from foremask.options import Quality
from foremask.types import Alpha, Image, Luma, Rgb
from foremask.vision.image import ArrayImage, Box, Cropped, MirroredImage
from foremask.vision.matting.backdrop import BACKDROP_REACH_FRAMES
from foremask.vision.matting.edges import refine
from foremask.vision.matting.outline import resolve_outlines
from foremask.vision.network.session import InputSize, Network, NetworkOutput, Precision, Session
from foremask.vision.resample import as_alpha, as_levels
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import mask_images
from foremask.weights.catalogue import model_path

BASE = "per frame"
FOLDERS = ("davis", "alpha", "clips")
TRUTH = "truth"  # measured like a mask: what it has is the error of the measure


@dataclass(frozen=True, slots=True)
class Numbered(ArrayImage):
    """A still that knows its place, so that what the network said of it is found again."""

    number: int = 0


type Question = tuple[int, bool, Box | None, InputSize | None]


class Remembering:
    """A session that infers each view of a picture once, however many tiers ask.

    It counts what it is ``asked`` and what it has ``inferred``, in inferences at the network's own
    size: one at half of its columns and rows counts a quarter.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._outputs: dict[Question, NetworkOutput] = {}
        self.asked = self.inferred = 0.0

    @property
    def runtime(self) -> str:
        """The session's."""
        return self._session.runtime

    @property
    def any_size(self) -> bool:
        """The session's."""
        return self._session.any_size

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        """As the session's, from memory the second time."""
        own_px = self._session.spec.size_px
        columns, rows = size or (own_px, own_px)
        share = columns * rows / own_px**2
        self.asked += share
        original = image.image if isinstance(image, MirroredImage | Cropped) else image
        if isinstance(original, Numbered):
            number = original.number
        else:  # an anchor's picture, of which a crop is inferred
            number = hash(original.rgb(64, 64).tobytes())
        box = image.box if isinstance(image, Cropped) else None
        question = number, isinstance(image, MirroredImage), box, size
        if question not in self._outputs:
            self.inferred += share
            output = self._session.infer(image, size)
            as_it_is = image is original and size is None
            kept = tuple(each.copy() for each in output.features) if as_it_is else ()
            self._outputs[question] = NetworkOutput(output.alpha, kept)
        return self._outputs[question]


@dataclass(frozen=True, slots=True)
class Row:
    """One tier on one clip; ``cpu_ms`` is the temporal stage's and the refinement's, without the network."""

    clip: str
    tier: str
    scores: Scores
    inferences_per_frame: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class SteadyRow:
    """How steady one tier is on one clip."""

    clip: str
    tier: str
    steady: Steadiness


def per_frame(images: list[Numbered], session: Session) -> list[Alpha]:
    """What an image tool gives: each frame by itself, enlarged linearly."""
    size = (images[0].width, images[0].height)
    return [np.asarray(cv2.resize(session.infer(each).alpha, size), np.float32) for each in images]


def by_tier(images: list[Numbered], network: Network, tier: Quality) -> list[Alpha]:
    """What foremask gives, before encoding."""
    alphas = mask_images(images, network, TIERS[tier])
    ahead_frames = BACKDROP_REACH_FRAMES if TIERS[tier].uses_backdrop else None
    pairs = resolve_outlines(zip(images, alphas, strict=True), ahead_frames)
    return [as_alpha(refine(alpha, _luma(image.pixels))) for image, alpha in pairs]


def _luma(rgb: Rgb) -> Luma:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def rows_of(
    clip: Clip, base: Session, fast: Session, tiers: list[Quality]
) -> Iterator[Row | SteadyRow]:
    """Every tier on one clip: what is right, where the truth is known, then what is steady."""
    images = [Numbered(frame, number) for number, frame in enumerate(clip.frames())]
    truths = clip.truths()
    network = Remembering(fast)
    masks: dict[str, list[Alpha]] = {}
    if truths:
        masks = {TRUTH: truths, BASE: per_frame(images, base)}
        yield Row(clip.name, BASE, score(masks[BASE], truths), 1.0, 0.0)
        for each in images:
            network.infer(each)
    for tier in tiers:
        network.asked = 0
        started = time.process_time()
        masks[tier] = by_tier(images, network, tier)
        cpu_ms = 1000 * (time.process_time() - started) / len(images)
        if truths:
            found = score(masks[tier], truths)
            yield Row(clip.name, tier, found, network.asked / len(images), cpu_ms)
    levels = {tier: [as_levels(alpha) for alpha in alphas] for tier, alphas in masks.items()}
    results = steadiness((each.pixels for each in images), *levels.values())
    for name, result in zip(levels, results, strict=True):
        yield SteadyRow(clip.name, name, result)


def rows_of_rvm(folder: Path) -> list[Row]:
    """Robust Video Matting on every clip of a folder, at the clip's own size."""
    with tempfile.TemporaryDirectory() as name, Peers(Path(name)) as peers:
        return [
            Row(clip.name, "RVM", score(peers.rvm(clip, len(truths[0]))[0], truths), 1.0, 0.0)
            for clip in clips_in(folder)
            for truths in (clip.truths(),)
        ]


def mean(rows: list[Row]) -> dict[str, float]:
    """The mean of each measure over clips; every clip counts the same."""
    tables = [asdict(row.scores) for row in rows]
    return {name: float(np.mean([table[name] for table in tables])) for name in tables[0]}


def summary(rows: list[Row]) -> list[str]:
    """A Markdown table: tiers by measures, and ratios to the base."""
    lines = [
        "| | J | F | J&F | J recall | MAD | MSE | dtSSD | dtSSD ratio | inferences a frame |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    tiers = list(dict.fromkeys(row.tier for row in rows))
    base = mean([row for row in rows if row.tier == BASE])
    for tier in tiers:
        mine = [row for row in rows if row.tier == tier]
        m = mean(mine)
        inferences = np.mean([row.inferences_per_frame for row in mine])
        lines.append(
            f"| {tier} | {m['j']:.1f} | {m['f']:.1f} | {m['jf']:.2f} ({m['jf'] - base['jf']:+.2f}) "
            f"| {m['j_recall']:.1f} | {m['mae']:.1f} | {m['mse']:.1f} | {m['dtssd']:.2f} "
            f"| {m['dtssd'] / base['dtssd']:.2f} | {inferences:.2f} |"
        )
    return lines


def by_clip(rows: list[Row]) -> list[str]:
    """A Markdown table: the change of J and F against the base, clip by clip."""
    tiers = [tier for tier in dict.fromkeys(row.tier for row in rows) if tier != BASE]
    lines = [
        "| clip | per frame J / F | " + " | ".join(f"{tier} J / F" for tier in tiers) + " |",
        "|---" * (2 + len(tiers)) + "|",
    ]
    at = {(row.clip, row.tier): row.scores for row in rows}
    for clip in dict.fromkeys(row.clip for row in rows):
        base = at[clip, BASE]
        changes = [
            f"{at[clip, tier].j - base.j:+.1f} / {at[clip, tier].f - base.f:+.1f}" for tier in tiers
        ]
        lines.append(f"| {clip} | {base.j:.1f} / {base.f:.1f} | " + " | ".join(changes) + " |")
    return lines


STEADY = "| clip | | ghost | vanish | appear | jumps | followed |"


def steady_table(rows: list[SteadyRow]) -> list[str]:
    """A Markdown table: steadiness, clip by clip; all but jumps are in percent."""
    lines = [STEADY, "|---" * 7 + "|"]
    for row in rows:
        s = row.steady
        lines.append(
            f"| {row.clip} | {row.tier} | {s.ghost:.1f} | {s.vanish:.2f} | {s.appear:.2f} "
            f"| {s.jumps} | {s.followed:.0f} |"
        )
    return lines


def main() -> None:
    """Score the folders and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="*", default=[DATA / each for each in FOLDERS])
    parser.add_argument("--tiers", type=Quality, nargs="*", default=list(Quality))
    parser.add_argument("--rvm", action="store_true")
    args = parser.parse_args()
    model = model_path(None)
    base, fast = Session(model, precision=Precision.BF16), Session(model)
    for folder in args.data:
        rows: list[Row] = []
        steady: list[SteadyRow] = []
        for clip in clips_in(folder):
            for row in rows_of(clip, base, fast, args.tiers):
                if isinstance(row, SteadyRow):
                    steady.append(row)
                    continue
                rows.append(row)
                print(f"{row.clip:24} {row.tier:10} J&F {row.scores.jf:.2f}", flush=True)
        if args.rvm and rows:
            rows += rows_of_rvm(folder)
        tables = [*summary(rows), "", *by_clip(rows), ""] if rows else []
        print("\n".join([f"\n### {folder.name}", "", *tables, *steady_table(steady), ""]))
    print(json.dumps(machine.facts()))


if __name__ == "__main__":
    main()
