"""Foreground masks for video, as a library: docs/python.md has recipes.

The names below are loaded when they are first used, so that importing foremask costs nothing and a
program may set up its process before NumPy is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foremask.errors import (
        ClipRefused,
        DeviceUnavailable,
        FieldInvalid,
        ForemaskError,
        ModelUnavailable,
        OutputFailed,
        PromiseBroken,
    )
    from foremask.facts import Clip, Report
    from foremask.hints.kinds import Box, Hint, Paint, Point
    from foremask.masking.cut_out import cut_out
    from foremask.masking.library import (
        FileReport,
        Masker,
        contact_sheet,
        find_things,
        mask_frames,
        mask_image,
        mask_video,
        probe,
        read_frames,
        read_masks,
        verify,
    )
    from foremask.masking.report import Progress
    from foremask.media.verify import PromiseKept
    from foremask.options import (
        AlphaFormat,
        Background,
        CutOutOptions,
        Device,
        MaskOptions,
        Matte,
        Preset,
        Quality,
    )

    __version__: str

_HOMES = {
    "AlphaFormat": "options",
    "Background": "options",
    "Box": "hints.kinds",
    "Clip": "facts",
    "ClipRefused": "errors",
    "CutOutOptions": "options",
    "Device": "options",
    "DeviceUnavailable": "errors",
    "FieldInvalid": "errors",
    "FileReport": "masking.library",
    "ForemaskError": "errors",
    "Hint": "hints.kinds",
    "MaskOptions": "options",
    "Masker": "masking.library",
    "Matte": "options",
    "ModelUnavailable": "errors",
    "OutputFailed": "errors",
    "Paint": "hints.kinds",
    "Point": "hints.kinds",
    "Preset": "options",
    "Progress": "masking.report",
    "PromiseBroken": "errors",
    "PromiseKept": "media.verify",
    "Quality": "options",
    "Report": "facts",
    "contact_sheet": "masking.library",
    "find_things": "masking.library",
    "cut_out": "masking.cut_out",
    "mask_frames": "masking.library",
    "mask_image": "masking.library",
    "mask_video": "masking.library",
    "probe": "masking.library",
    "read_frames": "masking.library",
    "read_masks": "masking.library",
    "verify": "masking.library",
}

__all__ = [
    "AlphaFormat",
    "Background",
    "Box",
    "Clip",
    "ClipRefused",
    "CutOutOptions",
    "Device",
    "DeviceUnavailable",
    "FieldInvalid",
    "FileReport",
    "ForemaskError",
    "Hint",
    "MaskOptions",
    "Masker",
    "Matte",
    "ModelUnavailable",
    "OutputFailed",
    "Paint",
    "Point",
    "Preset",
    "Progress",
    "PromiseBroken",
    "PromiseKept",
    "Quality",
    "Report",
    "__version__",
    "contact_sheet",
    "cut_out",
    "find_things",
    "mask_frames",
    "mask_image",
    "mask_video",
    "probe",
    "read_frames",
    "read_masks",
    "verify",
]


def __getattr__(name: str) -> object:
    value: object
    if name == "__version__":
        from importlib.metadata import version  # loads the email package

        value = version("foremask")
    elif name in _HOMES:
        value = getattr(import_module(f"foremask.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'foremask' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
