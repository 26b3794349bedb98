"""How the API's child executes requests: it reads headers, and its parent reads the bytes.

It loads no network, so it starts in a fraction of a second. It outlives a refusal, which is a
result here.
"""

from collections.abc import Mapping
from typing import Any, Final

from foremask.errors import ForemaskError
from foremask.fetch.remote_file import RemoteFile
from foremask.media.background_files import check_background
from foremask.media.colour_presets import check_result
from foremask.media.probe import probe
from foremask.options import form_of
from foremask.service.sandbox.messages import Refused
from foremask.service.sandbox.operations import (
    ProbeRemote,
    ProbeRemoteBackground,
    Request,
    Verdict,
    Wait,
)
from foremask.service.sandbox.parent import Operation, Parent


def _probe(request: ProbeRemote, parent: Parent) -> Verdict:
    try:
        clip = probe(RemoteFile(parent, request.size), request.limits)
        if request.preset is not None:
            form = form_of(request.preset, request.kind)
            check_result(clip, form, request.kind, request.limits.memory_bytes)
    except ForemaskError as error:
        return Verdict(refused=Refused.of(error))
    return Verdict(clip)


def _probe_background(request: ProbeRemoteBackground, parent: Parent) -> Refused | None:
    try:
        check_background(RemoteFile(parent, request.size), request.limits)
    except ForemaskError as error:
        return Refused.of(error)
    return None


def _wait(_: Wait, __: Parent) -> None:
    """Do nothing."""


OPERATIONS: Final[Mapping[type[Request[Any]], Operation]] = {
    ProbeRemote: _probe,
    ProbeRemoteBackground: _probe_background,
    Wait: _wait,
}
