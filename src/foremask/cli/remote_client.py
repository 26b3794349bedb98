"""The calls to a foremask on another machine; the client's home of httpx2."""

import hashlib
import io
import json
import re
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import httpx2

from foremask.cli.exits import ServerUnreachable, Usage
from foremask.errors import OutputFailed
from foremask.options import MEDIA_TYPES

READ_S: Final = 60.0
OnBytes = Callable[[int, int | None], None]
type Body = dict[str, Any]


class ServerRefused(Exception):
    """The server says no, in its own words."""

    def __init__(self, details: str, reason: str) -> None:
        super().__init__(details)
        self.details = details
        self.reason = reason


class RemoteClient:
    """One server, called with one token; a context manager.

    The token goes to the server alone: neither with an upload's form nor with a download, whose
    links are signed, and no redirect is followed. Each call raises ServerRefused where the server
    says no, and ServerUnreachable where nothing else can be said.
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
        self._headers = {"x-api-key": token}  # unlike api_token, every proxy lets it through
        self._base = str(url).rstrip("/")
        self._client = httpx2.Client(timeout=READ_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def submit(self, fields: Mapping[str, str]) -> str:
        """Make a job; its id. Where the answer is lost, it is asked for again: one job is made."""
        path, key = "/v2/video/segment/foreground_mask", str(uuid.uuid4())
        try:
            body = self._call("POST", path, fields, key)
        except ServerUnreachable:
            body = self._call("POST", path, fields, key)
        return str(_value(body, "request_id"))

    def status(self, job: str) -> Body:
        """A job's status."""
        return self._call("GET", _path(job))

    def cancel(self, job: str) -> Body:
        """Cancel a job, unless it has ended; its status then."""
        return self._call("DELETE", _path(job))

    def upload(self, file: Path, on_bytes: OnBytes) -> str:
        """Upload a file; the URL that a job finds it under."""
        kind = MEDIA_TYPES.get(file.suffix.lower(), "video/mp4")  # the server looks at the content
        body = self._call("POST", "/v2/video/upload", {"media_type": kind})
        form = _value(body, "result")
        with _translated(str(form["upload_url"])), _Counted(file, on_bytes) as content:
            answer = self._client.post(
                form["upload_url"],
                data=form["upload_fields"],
                files={"file": (file.name, content, kind)},
            )
            if answer.status_code != 204:
                raise _refusal(answer)
        return str(form["file_url"])

    def download(self, url: str, target: Path, sha256: str | None, on_bytes: OnBytes) -> None:
        """Write what is at a result's link into ``target``.

        Raises OutputFailed where its checksum is not ``sha256``; None is not compared.
        """
        done, digest = 0, hashlib.sha256()
        with _translated(url), self._client.stream("GET", url) as answer:
            if answer.status_code != 200:
                answer.read()
                raise _refusal(answer)
            length = answer.headers.get("content-length", "")
            total = int(length) if length.isdecimal() else None
            try:
                with target.open("wb") as sink:
                    for block in answer.iter_raw():
                        sink.write(block)
                        digest.update(block)
                        done += len(block)
                        on_bytes(done, total)
            except OSError as error:
                raise OutputFailed(f"the mask cannot be written: {error.strerror}") from error
        if sha256 is not None and sha256 != digest.hexdigest():
            raise OutputFailed(
                f"the mask came damaged: of its {done} bytes the SHA-256 is"
                f" {digest.hexdigest()[:16]}…, and the server says {sha256[:16]}…"
            )

    def _call(
        self, method: str, path: str, fields: Mapping[str, str] | None = None, key: str = ""
    ) -> Body:
        headers = self._headers | ({"idempotency-key": key} if key else {})
        with _translated(self._base):
            answer = self._client.request(method, self._base + path, headers=headers, json=fields)
        if answer.status_code not in (200, 202):
            raise _refusal(answer)
        return _object(answer)


class _Counted(io.FileIO):
    """A file that tells how much of it has been read."""

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
    """Errors of the network, without what a URL may have of secrets."""
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        parsed = httpx2.URL(url)
        place = f"{parsed.scheme}://{parsed.netloc.decode()}"  # no user, no password, no link
        what = "takes too long" if isinstance(error, httpx2.TimeoutException) else str(error)
        raise ServerUnreachable(f"{place} does not answer ({what})") from None


def _refusal(answer: httpx2.Response) -> Exception:
    error = _object(answer).get("error")
    if not isinstance(error, dict):
        return _no_foremask(answer)
    return ServerRefused(str(error.get("details", "")), str(error.get("reason", "internal")))


def _object(answer: httpx2.Response) -> Body:
    try:
        body = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise _no_foremask(answer) from None
    if not isinstance(body, dict):
        raise _no_foremask(answer)
    return body


def _value(body: Body, key: str) -> Any:  # noqa: ANN401  # what the server made of it
    if key not in body:
        raise ServerUnreachable(f"the server's answer has no {key}: it is no foremask")
    return body[key]


def _no_foremask(answer: httpx2.Response) -> ServerUnreachable:
    place = f"{answer.url.scheme}://{answer.url.netloc.decode()}"
    return ServerUnreachable(
        f"{place} answers {answer.status_code} and not as a foremask does: check the URL, and"
        " proxies between"
    )


def _path(job: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", job):
        raise Usage(f"{job!r} is no job's ID: `foremask submit` prints it")
    return f"/v2/status/{job}"
