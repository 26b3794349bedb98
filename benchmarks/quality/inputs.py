"""Feeds every file of the development data to the command line: in, or refused with a sentence.

    python -m benchmarks.quality.inputs [--show] [NAME...]

Clips: the first second is masked with a drawn masker and written; where the whole is refused, so is
that. Pictures are decoded; folders of pictures are packed into a clip, and that is masked. Prints
how many went in and every sentence of a refusal; ends with 1 where anything else was raised. The
network has no part in it.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from tests.support.synth import stretched

from foremask.cli.sources import CLIP_SUFFIXES, PICTURE_SUFFIXES
from foremask.errors import ForemaskError
from foremask.masking.pipeline import mask_video
from foremask.media.pictures import pack_pictures, read_picture
from foremask.options import Excerpt, MaskOptions
from foremask.types import Alpha, Image

DATA = Path(os.environ.get("FOREMASK_DATA", "../shared/data"))
FIRST_SECOND = Excerpt(0.0, 1.0)
PACKED = 12  # pictures of a folder that are made into a clip


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.quality.inputs")
    parser.add_argument("--show", action="store_true", help="a line for each file")
    parser.add_argument("names", nargs="*", help="parts of paths; without one, all")
    asked = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    sentences: defaultdict[str, list[str]] = defaultdict(list)
    for kind, files in inputs(asked.names):
        name = str(files[0].relative_to(DATA)) + ("" if len(files) == 1 else f" … {len(files)}")
        began = time.monotonic()
        verdict, sentence = outcome(kind, files)
        counts[kind, verdict] += 1
        if verdict != "in":
            sentences[sentence].append(name)
        if asked.show:
            print(f"{time.monotonic() - began:6.1f} s  {kind}  {name}: {verdict} {sentence}")
    print(
        "\n| input | in | refused with a sentence | anything else |", "|---|---|---|---|", sep="\n"
    )
    for kind in dict.fromkeys(kind for kind, _ in counts):
        row = [counts[kind, verdict] for verdict in ("in", "refused", "BAD")]
        print(f"| {kind} | {' | '.join(map(str, row))} |")
    for sentence, names in sorted(sentences.items()):
        print(f"\n{sentence}\n  {len(names)}: {', '.join(names[:4])}{' …' * (len(names) > 4)}")
    return int(any(verdict == "BAD" for _, verdict in counts))


def inputs(names: list[str]) -> Iterator[tuple[str, list[Path]]]:
    """Each file by itself, and each folder that has pictures as one clip."""
    files = sorted(path for path in DATA.rglob("*") if path.is_file())
    wanted = [path for path in files if not names or any(name in str(path) for name in names)]
    folders: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in wanted:
        suffix = path.suffix.lower()
        if suffix in PICTURE_SUFFIXES:
            folders[path.parent].append(path)
            yield "picture", [path]
        else:
            yield ("clip" if suffix in CLIP_SUFFIXES else "another file"), [path]
    for pictures in folders.values():
        if len(pictures) > 1:
            yield "folder of pictures", pictures[:PACKED]


def outcome(kind: str, files: list[Path]) -> tuple[str, str]:
    """Whether it went in, and what was said where it did not; never raises."""
    with tempfile.TemporaryDirectory() as place:
        try:
            with warnings.catch_warnings(action="error"):
                if kind == "picture":
                    read_picture(files[0]).rgb(64, 64)
                    return "in", ""
                clip = files[0]
                if kind == "folder of pictures":
                    clip = Path(place) / "packed.mov"
                    pack_pictures(files, Fraction(25), clip, lambda _: None)
                options = MaskOptions(excerpt=FIRST_SECOND)
                target = Path(place) / "mask.mp4"
                mask_video(clip, target, options, masker=green_is_foreground, refiner=stretched)
        except ForemaskError as error:
            return "refused", f"{error.details} [{error.reason}]"
        except Exception as error:  # noqa: BLE001  # that none gets here is what is measured
            return "BAD", f"{type(error).__name__}: {error}"
    return "in", ""


def green_is_foreground(images: Iterable[Image], /) -> Iterator[Alpha]:
    """Any mask will do here; this one costs nothing."""
    for image in images:
        rgb = image.rgb(min(256, image.width), min(256, image.height))
        yield np.divide(rgb[:, :, 1], 255, dtype=np.float32)


if __name__ == "__main__":
    sys.exit(main())
