"""An HTTP client of the foremask service on another machine."""

import hashlib
import io
import re
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Self

import httpx2
import msgspec
from msgspec import Struct

from foremask.cli.exits import ServerUnreachable, Usage
from foremask.errors import ForemaskError, OutputFailed
from foremask.options import MEDIA_TYPES

READ_S: Final = 60.0
MAX_ANSWER_BYTES: Final = 4 << 20  # the report of a two-hour clip is 2 MiB
MAX_MASK_BYTES: Final = 64 << 30
OnBytes = Callable[[int, int | None], None]


class RemoteProblem(Struct):
    details: str = "The job's record cannot be read."
    reason: str = ""


class _Report(Struct):
    sha256: str | None = None


class _Result(Struct):
    video_url: str
    report: _Report | None = None


class RemoteStatus(Struct):
    status: str
    stage: str = "queued"
    progress: float = 0
    frames_done: int | None = None
    frames_total: int | None = None
    queue_position: int | None = None
    eta_s: float | None = None
    idle_s: float | None = None
    result: _Result | None = None
    error: RemoteProblem | None = None

    @property
    def problem(self) -> RemoteProblem:
        return self.error or RemoteProblem()


class _Accepted(Struct):
    request_id: str


class _UploadForm(Struct):
    upload_url: str
    upload_fields: dict[str, str]
    file_url: str


class _Upload(Struct):
    result: _UploadForm


class _Refusal(Struct):
    error: RemoteProblem


class ServerRefused(ForemaskError):
    def __init__(self, problem: RemoteProblem) -> None:
        super().__init__(problem.details, cli_remedy="")
        self.reason = problem.reason  # may be of a newer server, and unknown here


class RemoteClient:
    """A client of one server, with one API token.

    Uploads and downloads use signed URLs, without the token. Redirects are not followed. Each call
    raises ServerRefused if the response has an error of the API. It raises ServerUnreachable if
    there is no response, or if its JSON is over 4 MiB or not of the expected type.
    """

    def __init__(self, server: str, token: str) -> None:
        if not re.fullmatch(r"[!-~]+", token):
            raise Usage("the token may only have printable ASCII characters without a space")
        try:
            url = httpx2.URL(server)
        except httpx2.InvalidURL:
            raise Usage("the server's URL cannot be read") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise Usage("the server's URL must start with http:// or https://")
        self._headers = {"x-api-key": token}  # some proxies drop api_token, as it has an underscore
        self._base = str(url).rstrip("/")
        # Without compression: a small compressed response could fill the memory.
        self._client = httpx2.Client(timeout=READ_S, headers={"accept-encoding": "identity"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def submit(self, fields: Mapping[str, str | float]) -> str:
        """Submit a job and return its id. A retry after a lost response makes no second job."""
        path = "/v2/video/segment/foreground_mask"
        call = partial(self._call, "POST", path, fields, key=str(uuid.uuid4()))
        try:
            body = call()
        except ServerUnreachable:
            body = call()
        return self._read(body, _Accepted).request_id

    def status(self, job: str, method: str = "GET") -> tuple[RemoteStatus, bytes]:
        """Return a job's status, decoded and as JSON. The method DELETE cancels the job."""
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", job):
            raise Usage(f"{job!r} is no job's ID: `foremask submit` prints it")
        body = self._call(method, f"/v2/status/{job}")
        return self._read(body, RemoteStatus), body

    def upload(self, file: Path, on_bytes: OnBytes) -> str:
        kind = MEDIA_TYPES.get(file.suffix.lower(), "video/mp4")  # the server detects the format
        body = self._call("POST", "/v2/video/upload", {"media_type": kind})
        form = self._read(body, _Upload).result
        with (
            _translated(form.upload_url),
            _Counted(file, on_bytes) as content,
            self._client.stream(
                "POST",
                form.upload_url,
                data=form.upload_fields,
                files={"file": (file.name, content, kind)},
            ) as answer,
        ):
            if answer.status_code != 204:
                raise self._refusal(answer)
        return form.file_url

    def download(self, url: str, target: Path, sha256: str | None, on_bytes: OnBytes) -> None:
        """Write a file to ``target``. Raises OutputFailed if ``sha256`` is given and differs."""
        done = 0
        digest = hashlib.sha256()
        with _translated(url), self._client.stream("GET", url) as answer:
            if answer.status_code != 200:
                raise self._refusal(answer)
            length = answer.headers.get("content-length", "")
            total = int(length) if re.fullmatch(r"\d{1,15}", length) else None
            try:
                with target.open("wb") as sink:
                    for block in answer.iter_raw():
                        done += len(block)
                        if done > MAX_MASK_BYTES:
                            raise self._no_foremask(answer.status_code)
                        sink.write(block)
                        digest.update(block)
                        on_bytes(done, total)
            except OSError as error:
                raise OutputFailed(f"the mask cannot be written: {error.strerror}") from error
        if sha256 is not None and sha256 != digest.hexdigest():
            raise OutputFailed(
                f"the mask came damaged: of its {done} bytes the SHA-256 is"
                f" {digest.hexdigest()[:16]}…, and the server says {sha256[:16]}…"
            )

    def _call(
        self, method: str, path: str, fields: Mapping[str, str | float] | None = None, key: str = ""
    ) -> bytes:
        headers = self._headers | ({"idempotency-key": key} if key else {})
        url = self._base + path
        with (
            _translated(self._base),
            self._client.stream(method, url, headers=headers, json=fields) as answer,
        ):
            if answer.status_code not in (200, 202):
                raise self._refusal(answer)
            return self._body(answer)

    def _body(self, answer: httpx2.Response) -> bytes:
        body = bytearray()
        for block in answer.iter_raw():
            body += block
            if len(body) > MAX_ANSWER_BYTES:
                raise self._no_foremask(answer.status_code)
        return bytes(body)

    def _refusal(self, answer: httpx2.Response) -> ServerRefused:
        return ServerRefused(self._read(self._body(answer), _Refusal, answer.status_code).error)

    def _read[T](self, body: bytes, kind: type[T], status: int = 200) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise self._no_foremask(status) from None

    def _no_foremask(self, status: int) -> ServerUnreachable:
        return ServerUnreachable(
            f"{_place(self._base)} answers {status} and not as a foremask does: check the URL, and"
            " proxies between"
        )


class _Counted(io.FileIO):
    def __init__(self, path: Path, on_bytes: OnBytes) -> None:
        try:
            super().__init__(path)
        except OSError as error:
            raise Usage(f"{path} cannot be read: {error.strerror}") from None
        self._total = path.stat().st_size
        self._on_bytes = on_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(-1 if size is None else size) or b""
        self._on_bytes(self.tell(), self._total)
        return block


@contextmanager
def _translated(url: str) -> Generator[None]:
    # A URL may contain secrets, which errors must not show.
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        what = "takes too long" if isinstance(error, httpx2.TimeoutException) else str(error)
        raise ServerUnreachable(f"{_place(url)} does not answer ({what})") from None


def _place(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return "a link of the server, which is no URL,"
    return f"{parsed.scheme}://{parsed.netloc.decode()}"
