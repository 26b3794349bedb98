"""``foremask submit``, ``status`` and ``cancel``: control jobs on another machine."""

import os
import shlex
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from foremask.cli.batch_options import AsJson, ByPreset, Force, Output, Shown, Switch, parse_excerpt
from foremask.cli.exits import Exit, ServerUnreachable, Usage, answer, exit_code, note, say
from foremask.cli.products import make_folder, mask_product, plan_jobs
from foremask.cli.progress_bar import progress_bar
from foremask.cli.remote_client import RemoteClient, RemoteStatus, ServerRefused
from foremask.cli.sources import ClipSource, find_sources
from foremask.cli.standard_streams import STANDARD_INPUT
from foremask.masking.outputs import check_output, written_whole
from foremask.options import Form, Preset, Quality

POLL_S: Final = 1.0
PATIENCE_S: Final = 60.0  # --wait retries for this long if the server is unavailable
_PASSING: Final = ("rate_limited", "overloaded", "unavailable")


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The foremask service on another machine.

    Args:
        server: The server's URL, by default FOREMASK_SERVER.
        token: The API token. Prefer FOREMASK_TOKEN: other users can read a command line.
    """

    server: Annotated[str | None, Shown] = None
    token: Annotated[str | None, Shown] = None

    def client(self) -> RemoteClient:
        """Make a client. Raises Usage if the server or the token is missing."""
        server = self.server or os.environ.get("FOREMASK_SERVER")
        token = (self.token or os.environ.get("FOREMASK_TOKEN") or "").strip()
        if not server:
            raise Usage("no server is named: set FOREMASK_SERVER, or use --server URL")
        if not token:
            raise Usage("no token is there: set FOREMASK_TOKEN; the server's operator has it")
        return RemoteClient(server, token)


JobId = Annotated[str, Parameter(name="ID", help="The ID that `foremask submit` printed.")]


def submit(
    source: Annotated[str, Parameter(name="INPUT")],
    /,
    *,
    output: Annotated[str | None, Parameter(name=("--output", "-o"))] = None,
    preset: ByPreset = None,
    quality: Quality = Quality.BALANCED,
    network: str | None = None,
    start: str | None = None,
    end: str | None = None,
    wait: Switch = False,
    force: Force = False,
    as_json: AsJson = False,
    server: ServerOptions = ServerOptions(),
) -> Exit:
    """Submit a job and print its ID.

    Args:
        source: A file, which is uploaded, or a URL that the server can fetch.
        output: A file, a folder/ or a template, as for `foremask mask`; implies --wait.
        preset: Container and codec (docs/media.md). By default, OUTPUT's suffix decides.
        quality: Mask quality; better masks take more time.
        network: A network by name, one of those that the server allows.
        start: Begin at this time of the clip: 62.5 or 1:02.5.
        end: End before this time of the clip.
        wait: Wait for the mask and download it, by default to the path that `foremask mask` uses.
    """
    clip, target, form = _planned(source, output, preset)
    excerpt = parse_excerpt(start, end)
    file = None if clip.is_url else clip.path
    wait = wait or output is not None
    if wait:
        make_folder(target, output)
        check_output(target, *clip.files, replace=force)

    with server.client() as client:
        url = source
        if file is not None:
            with progress_bar("upload", "MB") as show:
                url = client.upload(file, show)
        fields: dict[str, str | float] = {
            "video": url,
            "output_container_and_codec": str(form),
            "quality": str(quality),
        }
        if network is not None:
            fields["network"] = network
        if excerpt is not None:
            fields["start_s"] = excerpt.start_s
        if excerpt is not None and excerpt.end_s is not None:
            fields["end_s"] = excerpt.end_s
        job = client.submit(fields)
        if wait:
            note(f"job {job}")
            return _finish(client, job, target, replace=force, as_json=as_json)
    answer({"request_id": job}, [job], as_json=as_json)
    return Exit.OK


def status(
    job: JobId,
    /,
    *,
    output: Output = None,
    wait: Switch = False,
    force: Force = False,
    as_json: AsJson = False,
    server: ServerOptions = ServerOptions(),
) -> Exit:
    """Show a job's progress.

    Args:
        output: The file to download the mask into; implies --wait.
        wait: Wait until the job has ended.
    """
    if output is not None:
        check_output(output, replace=force)

    with server.client() as client:
        if wait or output is not None:
            return _finish(client, job, output, replace=force, as_json=as_json)
        return _answer(*client.status(job), as_json=as_json)


def cancel(
    job: JobId, /, *, as_json: AsJson = False, server: ServerOptions = ServerOptions()
) -> Exit:
    with server.client() as client:
        status, body = client.status(job, "DELETE")
    facts = msgspec.json.decode(body)
    if status.problem.reason == "cancelled":
        answer(facts, [f"{job} is cancelled"], as_json=as_json)
        return Exit.OK
    why = ""
    if status.status in ("COMPLETED", "ERROR"):
        why = ", since it had ended"
    answer(facts, [f"not cancelled{why}: {_described(status)}"], as_json=as_json)
    return Exit.INTERNAL


def _planned(
    source: str, output: str | None, preset: Preset | None
) -> tuple[ClipSource, Path, Form]:
    if source == STANDARD_INPUT or Path(source).is_dir():
        raise Usage("`submit` takes one INPUT: a file or a URL")
    found = find_sources([source])
    if len(found) != 1 or found[0].pictures or found[0].is_picture:
        raise Usage(f"`submit` takes one clip, and {source} is another thing")
    (job,) = plan_jobs(found, output, mask_product(preset))
    return job.source, job.target, job.form


def _finish(
    client: RemoteClient, job: str, target: Path | None, *, replace: bool, as_json: bool
) -> Exit:
    with _goes_on(job, target):
        status, body = _wait(client, job)
        if status.status != "COMPLETED" or status.result is None or target is None:
            return _answer(status, body, as_json=as_json)
        result = status.result
        with written_whole(target, replace=replace) as part, progress_bar("download", "MB") as show:
            sha256 = result.report.sha256 if result.report else None
            client.download(result.video_url, part, sha256, show)
    if as_json:
        return _answer(status, body, as_json=True)
    say(str(target))
    return Exit.OK


def _wait(client: RemoteClient, job: str) -> tuple[RemoteStatus, bytes]:
    silent_since_s: float | None = None
    with progress_bar("mask", "frames") as show:
        while True:
            try:
                status, body = client.status(job)
            except (ServerUnreachable, ServerRefused) as error:
                silent_since_s = silent_since_s or time.monotonic()
                known = isinstance(error, ServerUnreachable) or error.reason in _PASSING
                if not known or time.monotonic() - silent_since_s > PATIENCE_S:
                    raise
            else:
                silent_since_s = None
                show(status.frames_done or 0, status.frames_total, left_s=status.eta_s)
                if status.status != "IN_PROGRESS":
                    return status, body
            time.sleep(POLL_S)


@contextmanager
def _goes_on(job: str, target: Path | None) -> Generator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit, ServerUnreachable):
        more = "--wait" if target is None else f"-o {shlex.quote(str(target))}"
        goes_on = f"`foremask status {job} {more}` goes on waiting"
        note(f"job {job} is not cancelled: {goes_on}, `foremask cancel {job}` stops it")
        raise


def _answer(status: RemoteStatus, body: bytes, *, as_json: bool) -> Exit:
    has_failed = status.status not in ("COMPLETED", "IN_PROGRESS")
    if has_failed and not as_json:
        raise ServerRefused(status.problem)
    answer(msgspec.json.decode(body), [_described(status)], as_json=as_json)
    if has_failed:
        return exit_code(ServerRefused(status.problem))
    return Exit.OK


def _described(status: RemoteStatus) -> str:
    if status.result is not None:
        return f"{status.status}: {status.result.video_url}"
    if status.status != "IN_PROGRESS":
        return f"{status.status}: {status.problem.details}"
    words = [f"IN_PROGRESS: {status.stage}, {status.progress:g} %"]
    if status.queue_position is not None:
        words.append(f"number {status.queue_position} in the queue")
    if status.eta_s is not None:
        words.append(f"{status.eta_s:.0f} s to go")
    if status.idle_s is not None:
        words.append(f"no progress for {status.idle_s:.0f} s")
    return ", ".join(words)
