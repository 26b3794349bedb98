"""Foreground masks of videos: the foreground is white, the background is black.

    mask_video(source, target)    the mask video of a file
    cut_out(source, target)       a clip or picture with a transparent or replaced background
    mask_frames, mask_image       masks of RGB arrays, as float32 alphas
    cut_out_frames, cut_out_image cut-outs of RGB arrays, as uint8 RGBA
    Masker                        these functions as methods that share one loaded network
    pipeline_for, change=         the list of stages that makes masks, to look at and to change
    find_things                   the objects in a clip, each with a hint that selects it
    Point, Box, Paint, Text       hints: what is foreground, or not, in one frame; and words for it
    read_frames, read_masks       frames and masks of a file, with timestamps
    probe, verify, contact_sheet  a clip's properties; checks of a mask; pictures of clip and mask

Functions that run the network take quality="fast", "balanced" or "best", device="auto" and
model=FILE; NetworkOptions explains these. Quality has the values of quality=, and Preset has the
values of preset= for masks. A Pipeline is a list of Stages and Queues that ends with MaskedFrames.
Matte adjusts edges. on_progress is called with a Progress. mask_video
and cut_out return a FileReport (a Report), probe a Clip, find_things a list of Thing, and verify a
list of PromiseKept. foremask's own errors are subclasses of ForemaskError: ClipRefused,
FieldInvalid (also a ValueError), OutputFailed, ModelUnavailable, DeviceUnavailable, PromiseBroken.
docs/python.md has recipes. Each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foremask.errors import ClipRefused as ClipRefused
    from foremask.errors import DeviceUnavailable as DeviceUnavailable
    from foremask.errors import FieldInvalid as FieldInvalid
    from foremask.errors import ForemaskError as ForemaskError
    from foremask.errors import ModelUnavailable as ModelUnavailable
    from foremask.errors import OutputFailed as OutputFailed
    from foremask.errors import PromiseBroken as PromiseBroken
    from foremask.facts import Clip as Clip
    from foremask.facts import Report as Report
    from foremask.hints.kinds import Box as Box
    from foremask.hints.kinds import Hint as Hint
    from foremask.hints.kinds import Paint as Paint
    from foremask.hints.kinds import Point as Point
    from foremask.hints.kinds import Text as Text
    from foremask.masking.library import FileReport as FileReport
    from foremask.masking.library import Masker as Masker
    from foremask.masking.library import NetworkOptions as NetworkOptions
    from foremask.masking.library import contact_sheet as contact_sheet
    from foremask.masking.library import cut_out as cut_out
    from foremask.masking.library import cut_out_frames as cut_out_frames
    from foremask.masking.library import cut_out_image as cut_out_image
    from foremask.masking.library import find_things as find_things
    from foremask.masking.library import mask_frames as mask_frames
    from foremask.masking.library import mask_image as mask_image
    from foremask.masking.library import mask_video as mask_video
    from foremask.masking.library import pipeline_for as pipeline_for
    from foremask.masking.library import probe as probe
    from foremask.masking.library import read_frames as read_frames
    from foremask.masking.library import read_masks as read_masks
    from foremask.masking.library import verify as verify
    from foremask.masking.thing_list import Thing as Thing
    from foremask.media.promises import PromiseKept as PromiseKept
    from foremask.options import Device as Device
    from foremask.options import Matte as Matte
    from foremask.options import Preset as Preset
    from foremask.options import Quality as Quality
    from foremask.pipeline.progress import Progress as Progress
    from foremask.pipeline.stage_list import Pipeline as Pipeline
    from foremask.pipeline.stage_list import Queue as Queue
    from foremask.pipeline.stage_list import Stage as Stage
    from foremask.pipeline.values import MaskedFrame as MaskedFrame

    __version__: str

_HOMES = {
    "errors": "ClipRefused DeviceUnavailable FieldInvalid ForemaskError ModelUnavailable"
    " OutputFailed PromiseBroken",
    "facts": "Clip Report",
    "hints.kinds": "Box Hint Paint Point Text",
    "masking.library": "FileReport Masker NetworkOptions contact_sheet cut_out cut_out_frames"
    " cut_out_image find_things mask_frames mask_image mask_video pipeline_for probe read_frames"
    " read_masks verify",
    "pipeline.stage_list": "Pipeline Queue Stage",
    "pipeline.progress": "Progress",
    "pipeline.values": "MaskedFrame",
    "masking.thing_list": "Thing",
    "media.promises": "PromiseKept",
    "options": "Device Matte Preset Quality",
}


def __getattr__(name: str) -> object:
    value: object
    home = next((home for home, names in _HOMES.items() if name in names.split()), None)
    if name == "__version__":
        from importlib.metadata import version  # loads the email package

        value = version("foremask")
    elif home is not None:
        value = getattr(import_module(f"foremask.{home}"), name)
    else:
        raise AttributeError(f"module 'foremask' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(["__version__", *" ".join(_HOMES.values()).split()])
