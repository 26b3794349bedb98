"""Writes the cut-out of a clip as OpenEXR: linear half floats, and a layer for each thing."""

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import OpenEXR
from numpy.typing import NDArray

import foremask
from foremask.masking.thing_list import masks_of_things
from foremask.media.png_sequence import numbered
from foremask.options import Form, JobSpec, Quality, Resources

COMPRESSIONS = {
    "zip": OpenEXR.ZIP_COMPRESSION,
    "zips": OpenEXR.ZIPS_COMPRESSION,
    "piz": OpenEXR.PIZ_COMPRESSION,
    "dwaa": OpenEXR.DWAA_COMPRESSION,
    "dwab": OpenEXR.DWAB_COMPRESSION,
}


def main(words: Sequence[str] | None = None) -> int:
    """The command `foremask-exr`."""
    parser = argparse.ArgumentParser(prog="foremask-exr", description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("target", type=Path, help="a new folder and a number: frames/%%04d.exr")
    parser.add_argument("--quality", type=Quality, default=Quality.BALANCED)
    parser.add_argument("--model", type=Path, help="an ONNX file of one's own")
    parser.add_argument("--first-number", type=int, default=1, help="such as 1001; 1 by default")
    parser.add_argument("--compression", choices=COMPRESSIONS, default="zip")
    given = parser.parse_args(words)
    try:
        written = write_exr(
            given.clip,
            given.target,
            quality=given.quality,
            model=given.model,
            first_number=given.first_number,
            compression=given.compression,
        )
    except (foremask.ForemaskError, OSError) as error:
        print(f"error: {getattr(error, 'details', error)}", file=sys.stderr)
        return 1
    print(f"{given.target.parent}: {written} frames")
    return 0


def write_exr(
    clip: Path,
    target: Path,
    *,
    quality: Quality = Quality.BALANCED,
    model: Path | None = None,
    first_number: int = 1,
    compression: str = "zip",
) -> int:
    """Write ``target``, like ``frames/%04d.exr``, and return how many frames there are.

    ``compression`` is one of `COMPRESSIONS`; dwaa and dwab lose a little. R, G, B and A are the
    cut-out, multiplied by alpha as OpenEXR has it; ``thing1.A`` is the largest thing's own alpha,
    and so on. Colours are linear with BT.709's primaries, by sRGB's curve: so Blender and Nuke take
    a movie, and under their sRGB views the subject looks as it did.
    Raises what `foremask.cut_out` raises, and OSError where the folder has files already.
    """
    facts = foremask.probe(clip)
    target.parent.mkdir(parents=True, exist_ok=True)
    if any(target.parent.iterdir()):
        raise FileExistsError(f"{target.parent} has files already: name a new folder")
    with TemporaryDirectory(prefix="foremask-") as scratch:
        cache = Path(scratch, "network")  # so the network is asked once
        foremask.cut_out(
            clip, Path(scratch, "cut", "%06d.png"), cache=cache, quality=quality, model=model
        )
        things = foremask.find_things(clip, cache=cache, quality=quality, model=model)
        spec = JobSpec(form=Form.MKV_VP9, quality=quality)  # this preset is exact
        masks = masks_of_things(
            clip, things, Path(scratch, "things"), spec, Resources(model=model), cache=cache
        )
        pictures = sorted(Path(scratch, "cut").glob("*.png"))
        alphas = zip(*(foremask.read_masks(mask) for mask in masks), strict=True)
        for number, picture in enumerate(pictures, first_number):
            channels = {"RGBA": _linear(picture)}
            if masks:
                for thing, (_, alpha) in zip(things, next(alphas), strict=True):
                    channels[f"thing{thing.number}.A"] = alpha.astype(np.float16)
            header = {
                "type": OpenEXR.scanlineimage,
                "compression": COMPRESSIONS[compression],
                "colorInteropID": "lin_rec709_scene",
                "framesPerSecond": Fraction(facts.fps).limit_denominator(1001),
                "imageCounter": number,
            }
            OpenEXR.File(header, channels).write(
                str(target.with_name(numbered(target.name, number)))
            )
    return len(pictures)


def _linear(picture: Path) -> NDArray[np.float16]:
    """(H, W, 4) of a PNG with straight alpha: linear and multiplied by it."""
    read = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
    if read is None:
        raise OSError(f"{picture.name} cannot be read")
    signal = cv2.cvtColor(read, cv2.COLOR_BGRA2RGBA) / np.float32(np.iinfo(read.dtype).max)
    colours, alpha = signal[..., :3], signal[..., 3:]
    light = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.dstack([light * alpha, alpha]).astype(np.float16)


if __name__ == "__main__":
    sys.exit(main())
