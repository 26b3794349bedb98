"""What the API's child is asked: what is this clip? A refusal is an answer like any other, and the child lives on.

It loads what reads headers and no network, so it is there in a fraction of a second.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from foremask.errors import ForemaskError
from foremask.media.presets import check_preset
from foremask.media.probe import probe
from foremask.options import Limits, Preset
from foremask.service.sandbox.child import Operation, Parent
from foremask.service.sandbox.remote_file import RemoteFile


def _probe(args: dict[str, Any], parent: Parent) -> dict[str, object]:
    try:
        limits = msgspec.convert(args["limits"], Limits)
        clip = probe(RemoteFile(parent, args["size"]), limits)
        check_preset(clip, Preset(args["preset"]), limits.memory_bytes)
    except ForemaskError as error:
        facts = {name: getattr(error, name) for name in ("details", "param", "limit", "actual")}
        return {"refused": error.reason, **facts}
    return {"clip": clip}


def _wait(_: dict[str, Any], __: Parent) -> None:
    """Nothing: what takes time in a new child is done once this is answered."""


OPERATIONS: Final[Mapping[str, Operation]] = {"probe": _probe, "wait": _wait}
