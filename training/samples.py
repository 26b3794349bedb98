"""Samples: a crop of a picture, what is meant in it, and the first prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from training.answers import GROUP, PART, THING
from training.disturbance import disturbed, with_small_errors
from training.pictures import UNKNOWN, Archive, Bgr, LabelledPicture, network_input
from training.places import Region, as_people_click, click_at
from training.prompts import Map, Prompt

SOURCE_SHARES = {"voc": 0.62, "coco": 0.24, "clothing": 0.14}
SOURCES_OF_PARTS = {"clothing"}

KIND_SHARES = {
    "click": 0.36,  # a single click: three answers
    "automatic mask": 0.12,  # IS-Net's answer as the earlier mask, and a click
    "moved mask": 0.18,  # a mask from another frame, alone or with a click
    "small error": 0.14,  # a mask that is nearly right, and a click in what is wrong
    "other things": 0.08,  # a mask with one thing too many or too few, and a click that says so
    "box": 0.06,
    "stroke": 0.06,
}
LEAST_AREA = 0.004
"""Smaller things, as a share of the picture, are never meant."""
WHOLE_PICTURES = 0.4


@dataclass
class Meaning:
    """What may be meant at a place: masks by level, the meant one among them."""

    levels: dict[int, Region]
    meant: int
    unknown: Region
    other: Region | None
    """Another thing in the picture."""


@dataclass
class Sample:
    kind: str
    image: Map
    """(3, side, side), RGB in -0.5 to 0.5."""
    levels: dict[int, Map]
    """Of half the side."""
    meant: int
    known: Map
    prompt: Prompt
    wants_click: bool
    wants_automatic_mask: bool
    answers: list[float] = field(default_factory=list)

    @property
    def target(self) -> Map:
        return self.levels[self.meant]


def touching(labels: np.ndarray, region: Region, candidates: list[int]) -> list[int]:
    """The labels that lie against a region."""
    near = cv2.dilate(region.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    beside = set(np.unique(labels[near]).tolist())
    return [label for label in candidates if label in beside]


def meaning(
    picture: LabelledPicture, *, has_parts: bool, rng: np.random.Generator
) -> Meaning | None:
    """One of the things of a picture, or a part of it, or it with all that touches it."""
    labels = picture.labels
    unknown = labels == UNKNOWN
    values, counts = np.unique(labels[(labels > 0) & ~unknown], return_counts=True)
    large = counts >= LEAST_AREA * labels.size
    if not large.any():
        return None
    chosen = values[large]
    weights = np.sqrt(counts[large])
    one = int(rng.choice(chosen, p=weights / weights.sum()))
    region = labels == one
    others = [int(value) for value in chosen if value != one]
    if has_parts:
        whole = labels > 0
        levels = {PART: region, THING: whole, GROUP: whole}
        meant = int(rng.choice([PART, THING], p=[0.3, 0.7]))
        return Meaning(levels, meant, unknown & ~whole, None)
    beside = touching(labels, region, others)
    if not beside:
        levels = {THING: region, GROUP: region}
        meant = THING
    else:
        levels = {THING: region, GROUP: np.isin(labels, [one, *beside])}
        meant = int(rng.choice([THING, GROUP], p=[0.75, 0.25]))
    other = None
    if others and meant == THING:
        other = labels == int(rng.choice(beside or others))
    return Meaning(levels, meant, unknown, other)


def window(region: Region, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of the whole picture, or of a crop of 1.15 to 3 times what is meant."""
    height, width = region.shape
    if rng.random() < WHOLE_PICTURES:
        return slice(0, height), slice(0, width)
    larger = np.exp(rng.uniform(np.log(1.15), np.log(3.0)))
    rows, columns = np.nonzero(region)
    longest = larger * max(np.ptp(rows), np.ptp(columns))

    def span(places: np.ndarray, limit: int) -> slice:
        extent = np.ptp(places) + 1
        length = max(longest * np.exp(rng.uniform(-0.25, 0.25)), extent * 1.05, 64)
        centre = (places.min() + places.max()) / 2 + rng.uniform(-0.45, 0.45) * (length - extent)
        return slice(int(max(0, centre - length / 2)), int(min(limit, centre + length / 2)))

    return span(rows, height), span(columns, width)


def recoloured(bgr: Bgr, rng: np.random.Generator) -> Bgr:
    """Other light, other contrast; sometimes other colours, blur or coarse JPEG."""
    pixels = bgr.astype(np.float32) * rng.uniform(0.75, 1.25) + rng.uniform(-20, 20)
    if rng.random() < 0.3:
        pixels *= rng.uniform(0.85, 1.15, (1, 1, 3)).astype(np.float32)
    if rng.random() < 0.15:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 2.0))
    changed = np.clip(pixels, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 60))]
        changed = cv2.imdecode(cv2.imencode(".jpg", changed, quality)[1], cv2.IMREAD_COLOR)
    return changed


def shrunk(region: Region, side: int) -> Map:
    larger = min(region.shape) > side
    method = cv2.INTER_AREA if larger else cv2.INTER_LINEAR
    return cv2.resize(region.astype(np.float32), (side, side), interpolation=method)


def box_round(region: Region, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A box as people draw it: a few percent off on each side."""
    height, width = region.shape
    rows, columns = np.nonzero(region)
    tall = np.ptp(rows) + 1
    wide = np.ptp(columns) + 1
    left, right = (rng.normal(0.01, 0.03, 2) * wide).tolist()
    top, bottom = (rng.normal(0.01, 0.03, 2) * tall).tolist()
    edges = (
        (columns.min() - left) / width,
        (rows.min() - top) / height,
        (columns.max() + 1 + right) / width,
        (rows.max() + 1 + bottom) / height,
    )
    x0, y0, x1, y1 = (float(np.clip(edge, 0, 1)) for edge in edges)
    return x0, y0, x1, y1


def stroke_on(region: Region, rng: np.random.Generator) -> Map:
    """A line through two to four places of a region; the part that strays from it is cut off."""
    drawn = np.zeros(region.shape, np.uint8)
    places = [as_people_click(region, rng)[::-1] for _ in range(rng.integers(2, 5))]
    thickness = int(rng.integers(2, 7))
    cv2.polylines(drawn, [np.array(places, np.int32)], isClosed=False, color=1, thickness=thickness)
    kept = (drawn > 0) & region
    return kept.astype(np.float32)


def click_on(region: Region, rng: np.random.Generator, *, inside: bool = True) -> Prompt:
    place = as_people_click(region, rng)
    return Prompt(clicks=[click_at(*place, region.shape, inside=inside)])


def sample_of(
    picture: LabelledPicture, *, has_parts: bool, side: int, rng: np.random.Generator
) -> Sample | None:
    """A sample; None where the picture or the crop shows too little of anything."""
    what = meaning(picture, has_parts=has_parts, rng=rng)
    if what is None:
        return None
    frame = window(what.levels[what.meant], rng)
    flip = rng.random() < 0.5

    def cut(pixels: np.ndarray) -> np.ndarray:
        part = pixels[frame]
        return np.ascontiguousarray(part[:, ::-1] if flip else part)

    half = side // 2
    levels = {level: shrunk(cut(region), half) for level, region in what.levels.items()}
    known = 1 - shrunk(cut(what.unknown), half)
    target = (levels[what.meant] > 0.5) & (known > 0.5)
    if not 0.002 < target.mean() < 0.95:
        return None
    other = None
    if what.other is not None:
        other = shrunk(cut(what.other), half)
        if (other > 0.5).mean() < 0.002:
            other = None
    kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    if kind == "other things" and other is None:
        kind = "click"
    sample = Sample(
        kind=kind,
        image=network_input(recoloured(cut(picture.bgr), rng), side),
        levels=levels,
        meant=what.meant,
        known=known,
        prompt=Prompt(),
        wants_click=False,
        wants_automatic_mask=False,
    )
    add_prompt(sample, target, other, rng)
    return sample


def add_prompt(sample: Sample, target: Region, other: Map | None, rng: np.random.Generator) -> None:
    """Give the first prompt of the sample's kind."""
    if sample.kind == "click":
        smallest = sample.levels[min(sample.levels)] > 0.5
        place = target & smallest if (target & smallest).any() else target
        sample.prompt = click_on(place, rng)
    elif sample.kind == "automatic mask":
        sample.wants_automatic_mask = True
        sample.wants_click = True
    elif sample.kind == "moved mask":
        sample.prompt.earlier = disturbed(target.astype(np.float32), other, rng)
        sample.wants_click = rng.random() < 0.3
    elif sample.kind == "small error":
        half = sample.target.shape[::-1]
        rgb = cv2.resize(sample.image.transpose(1, 2, 0) + 0.5, half, interpolation=cv2.INTER_AREA)
        sample.prompt.earlier = with_small_errors(sample.target, rgb, rng)
        sample.wants_click = True
    elif sample.kind == "other things" and other is not None:
        both = np.maximum(sample.target, other)
        if rng.random() < 0.5:
            sample.prompt.earlier = disturbed(both, None, rng)
        else:
            sample.prompt.earlier = disturbed(other, None, rng)
            sample.levels[sample.meant] = both
        sample.wants_click = True
    elif sample.kind == "box":
        sample.prompt.box = box_round(target, rng)
        if rng.random() < 0.4:
            sample.prompt.clicks = click_on(target, rng).clicks
    elif sample.kind == "stroke":
        sample.prompt.stroke_in = stroke_on(target, rng)
        outside = ~target & (sample.known > 0.5)
        if rng.random() < 0.3 and outside.any():
            sample.prompt.stroke_out = stroke_on(outside, rng)


class Samples:
    """Batches without an end."""

    def __init__(self, archives: Path, rng: np.random.Generator) -> None:
        names = [name for name in SOURCE_SHARES if (archives / f"{name}.zip").exists()]
        self.archives = {n: Archive(archives / f"{n}.zip", held_out=False) for n in names}
        shares: Mapping[str, float] = {name: SOURCE_SHARES[name] for name in names}
        self.shares = np.array(list(shares.values())) / sum(shares.values())
        self.rng = rng

    def batch(self, count: int, side: int) -> list[Sample]:
        samples: list[Sample] = []
        while len(samples) < count:
            source = str(self.rng.choice(list(self.archives), p=self.shares))
            archive = self.archives[source]
            picture = archive.picture(int(self.rng.integers(len(archive))))
            has_parts = source in SOURCES_OF_PARTS
            sample = sample_of(picture, has_parts=has_parts, side=side, rng=self.rng)
            if sample is not None:
                samples.append(sample)
        return samples
