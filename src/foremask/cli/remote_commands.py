"""``foremask submit``, ``status`` and ``cancel``: jobs of a foremask on another machine."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from foremask.cli.exits import Exit, ServerUnreachable, Usage, exit_code, print_json, say
from foremask.cli.progress_bar import FRAMES, MEGABYTES, progress_bar
from foremask.cli.remote_client import Body, RemoteClient, ServerRefused
from foremask.cli.sources import ClipSource, find_sources
from foremask.cli.targets import make_folder, plan_jobs
from foremask.errors import by_reason
from foremask.masking.outputs import check_output, written_whole
from foremask.options import Preset, Quality

POLL_S: Final = 1.0
PATIENCE_S: Final = 60.0
"""How long a server that does not answer is asked again while somebody waits for a job."""
_PASSING: Final = ("rate_limited", "overloaded", "unavailable")

Flag = Parameter(negative="", show_default=False)
Server = Annotated[str | None, Parameter(show_default=False)]
AsJson = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]


def submit(
    source: Annotated[str, Parameter(name="INPUT")],
    /,
    *,
    output: Annotated[str | None, Parameter(name=("--output", "-o"))] = None,
    preset: Annotated[
        Preset | None, Parameter(name_transform=str.lower, show_choices=False)
    ] = None,
    quality: Quality = Quality.BALANCED,
    wait: Annotated[bool, Flag] = False,
    force: Annotated[bool, Flag] = False,
    as_json: AsJson = False,
    server: Server = None,
    token: Server = None,
) -> Exit:
    """Have a clip masked by a foremask on another machine; prints the job's ID.

    Args:
        source: A URL that the server can fetch, or a file, which is uploaded.
        output: A file, a folder/ or a template, as of `foremask mask`; implies --wait.
        preset: Container and codec (docs/media.md); else by OUTPUT's ending, or mp4_h264.
        quality: How much time the mask may take.
        wait: Wait for the mask and download it: without OUTPUT, into clip.mask.mp4 beside the
            file, or in this directory for a URL.
        force: Replace an OUTPUT that is there already.
        as_json: Answer with JSON.
        server: Where it is; else FOREMASK_SERVER.
        token: Its token; better in FOREMASK_TOKEN, since others can see a command line.
    """
    clip, target, preset = _planned(source, output, preset)
    file = None if clip.is_url else clip.path
    wait = wait or output is not None
    if wait:
        make_folder(target, output)
        check_output(target, *clip.files, replace=force)

    def work(client: RemoteClient) -> Exit:
        url = source
        if file is not None:
            with progress_bar("upload", MEGABYTES) as show:
                url = client.upload(file, show)
        fields = {"video": url, "output_container_and_codec": str(preset), "quality": str(quality)}
        job = client.submit(fields)
        if not wait:
            _tell({"request_id": job}, job, as_json=as_json)
            return Exit.OK
        print(f"job {job}", file=sys.stderr)  # noqa: T201
        return _finish(client, job, target, replace=force, as_json=as_json)

    return _called(server, token, work)


def status(
    job: Annotated[str, Parameter(name="ID")],
    /,
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    wait: Annotated[bool, Flag] = False,
    force: Annotated[bool, Flag] = False,
    as_json: AsJson = False,
    server: Server = None,
    token: Server = None,
) -> Exit:
    """Say how far a job of another foremask is.

    Args:
        job: Its ID, as `foremask submit` printed it.
        output: Where the mask is downloaded to; implies --wait.
        wait: Wait until the job has ended.
        force: Replace an OUTPUT that is there already.
        as_json: Answer with JSON.
        server: Where it is; else FOREMASK_SERVER.
        token: Its token; better in FOREMASK_TOKEN, since others can see a command line.
    """
    if output is not None:
        check_output(output, replace=force)

    def work(client: RemoteClient) -> Exit:
        if wait or output is not None:
            return _finish(client, job, output, replace=force, as_json=as_json)
        body = client.status(job)
        if body.get("status") == "ERROR" and not as_json:
            raise _refused(body)
        _tell(body, _described(body), as_json=as_json)
        return _code_of(body)

    return _called(server, token, work)


def cancel(
    job: Annotated[str, Parameter(name="ID")],
    /,
    *,
    as_json: AsJson = False,
    server: Server = None,
    token: Server = None,
) -> Exit:
    """Cancel a job of another foremask.

    Args:
        job: Its ID, as `foremask submit` printed it.
        as_json: Answer with JSON.
        server: Where it is; else FOREMASK_SERVER.
        token: Its token; better in FOREMASK_TOKEN, since others can see a command line.
    """

    def work(client: RemoteClient) -> Exit:
        body = client.cancel(job)
        if _reason(body) == "cancelled":
            _tell(body, f"{job} is cancelled", as_json=as_json)
            return Exit.OK
        _tell(body, f"not cancelled, since it had ended: {_described(body)}", as_json=as_json)
        return Exit.INTERNAL

    return _called(server, token, work)


def _planned(
    source: str, output: str | None, preset: Preset | None
) -> tuple[ClipSource, Path, Preset]:
    """What is masked, where to and as what: as `foremask mask` has it."""
    if source == "-":
        raise Usage("`submit` takes one INPUT: a file or a URL")
    found = find_sources([source])
    if len(found) != 1 or found[0].pictures or found[0].is_picture:
        raise Usage(f"`submit` takes one clip, and {source} is another thing")
    jobs, _ = plan_jobs(found, output, preset)
    return found[0], jobs[0].target, jobs[0].preset or Preset.MP4_H264


def _called(server: str | None, token: str | None, work: Callable[[RemoteClient], Exit]) -> Exit:
    server = server or os.environ.get("FOREMASK_SERVER")
    token = (token or os.environ.get("FOREMASK_TOKEN") or "").strip()
    if not server:
        raise Usage("no server is named: set FOREMASK_SERVER, or use --server URL")
    if not token:
        raise Usage("no token is there: set FOREMASK_TOKEN; the server's operator has it")
    try:
        with RemoteClient(server, token) as client:
            return work(client)
    except ServerRefused as error:
        print(f"error: {error.details} [{error.reason}]", file=sys.stderr)  # noqa: T201
        return _code(error.reason)


def _finish(
    client: RemoteClient, job: str, target: Path | None, *, replace: bool, as_json: bool
) -> Exit:
    """Wait for the job's end, and download its mask where a ``target`` is named."""
    with _goes_on(job, target):
        body = _wait(client, job)
        if body["status"] != "COMPLETED" and not as_json:
            raise _refused(body)
        if body["status"] == "COMPLETED" and target is not None:
            with (
                written_whole(target, replace=replace) as part,
                progress_bar("download", MEGABYTES) as show,
            ):
                result = body["result"]
                sha256 = (result.get("report") or {}).get("sha256")
                client.download(result["mask_url"], part, sha256, show)
    _tell(body, _described(body) if target is None else str(target), as_json=as_json)
    return _code_of(body)


def _wait(client: RemoteClient, job: str) -> Body:
    """Ask until the job has ended; a server that is gone for a while is asked again."""
    silent_since_s: float | None = None
    with progress_bar("mask", FRAMES) as show:
        while True:
            try:
                body = client.status(job)
            except (ServerUnreachable, ServerRefused) as error:
                silent_since_s = silent_since_s or time.monotonic()
                known = isinstance(error, ServerUnreachable) or error.reason in _PASSING
                if not known or time.monotonic() - silent_since_s > PATIENCE_S:
                    raise
            else:
                silent_since_s = None
                show(body.get("frames_done") or 0, body.get("frames_total"))
                if body.get("status") != "IN_PROGRESS":
                    return body
            time.sleep(POLL_S)


@contextmanager
def _goes_on(job: str, target: Path | None) -> Generator[None]:
    """Say how to go on where the waiting ends before the job does."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, ServerUnreachable):
        more = "--wait" if target is None else f"-o {shlex.quote(str(target))}"
        line = (
            f"job {job} is not cancelled: `foremask status {job} {more}` goes on waiting,"
            f" `foremask cancel {job}` stops it"
        )
        print(line, file=sys.stderr)  # noqa: T201
        raise


def _described(body: Body) -> str:
    """A status in one line."""
    if body.get("status") == "COMPLETED":
        return f"COMPLETED: {body['result']['mask_url']}"
    if body.get("status") != "IN_PROGRESS":
        return f"{body.get('status')}: {_refused(body).details}"
    words = [f"IN_PROGRESS: {body.get('stage', 'queued')}, {body.get('progress', 0)} %"]
    if "queue_position" in body:
        words.append(f"number {body['queue_position']} in the queue")
    if "eta_s" in body:
        words.append(f"{body['eta_s']:.0f} s to go")
    return ", ".join(words)


def _tell(body: Body, line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(body)
    else:
        say(line)


def _refused(body: Body) -> ServerRefused:
    details = str((body.get("error") or {}).get("details", "The job's record cannot be read."))
    return ServerRefused(details, _reason(body))


def _reason(body: Body) -> str:
    return str((body.get("error") or {}).get("reason", ""))


def _code_of(body: Body) -> Exit:
    return Exit.OK if body.get("status") in ("COMPLETED", "IN_PROGRESS") else _code(_reason(body))


def _code(reason: str) -> Exit:
    kind = by_reason(reason)
    return Exit.INTERNAL if kind is None else exit_code(kind(""))
