"""Foreground masks for video, as a library: ``from foremask import mask_video``.

The names below are loaded when they are first used, so that importing foremask costs nothing and a
program may set up its process before NumPy is loaded.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foremask.errors import ForemaskError
    from foremask.facts import Clip, Report
    from foremask.masking.contact_sheet import contact_sheet
    from foremask.masking.cut_out import cut_out
    from foremask.masking.pipeline import mask_video
    from foremask.masking.report import Progress
    from foremask.media.probe import probe
    from foremask.media.verify import verify
    from foremask.options import (
        AlphaFormat,
        Background,
        CutOutOptions,
        Device,
        Limits,
        MaskOptions,
        Matte,
        Preset,
        Quality,
    )

__all__ = [
    "AlphaFormat",
    "Background",
    "Clip",
    "CutOutOptions",
    "Device",
    "ForemaskError",
    "Limits",
    "MaskOptions",
    "Matte",
    "Preset",
    "Progress",
    "Quality",
    "Report",
    "__version__",
    "contact_sheet",
    "cut_out",
    "mask_video",
    "probe",
    "verify",
]

__version__ = version("foremask")

_HOMES = {
    "cut_out": "masking.cut_out",
    "Matte": "options",
    "CutOutOptions": "options",
    "Background": "options",
    "AlphaFormat": "options",
    "Clip": "facts",
    "Device": "options",
    "ForemaskError": "errors",
    "Limits": "options",
    "MaskOptions": "options",
    "Preset": "options",
    "Progress": "masking.report",
    "Quality": "options",
    "Report": "facts",
    "contact_sheet": "masking.contact_sheet",
    "mask_video": "masking.pipeline",
    "probe": "media.probe",
    "verify": "media.verify",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'foremask' has no attribute {name!r}")
    value = getattr(import_module(f"foremask.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
