"""How the API's child executes requests: it reads headers, and its parent reads the bytes.

It loads no network, so it starts in a fraction of a second. It outlives a refusal, which is a
result here.
"""

from collections.abc import Mapping
from typing import Any, Final

from foremask.errors import ForemaskError
from foremask.media.presets import check_preset
from foremask.media.probe import probe
from foremask.service.sandbox.messages import Refused
from foremask.service.sandbox.operations import ProbeRemote, Request, Verdict, Wait
from foremask.service.sandbox.parent import Operation, Parent
from foremask.service.sandbox.remote_file import RemoteFile


def _probe(request: ProbeRemote, parent: Parent) -> Verdict:
    try:
        clip = probe(RemoteFile(parent, request.size), request.limits)
        if request.preset is not None:
            check_preset(clip, request.preset, request.limits.memory_bytes)
    except ForemaskError as error:
        return Verdict(refused=Refused.of(error))
    return Verdict(clip)


def _wait(_: Wait, __: Parent) -> None:
    """Do nothing."""


OPERATIONS: Final[Mapping[type[Request[Any]], Operation]] = {ProbeRemote: _probe, Wait: _wait}
