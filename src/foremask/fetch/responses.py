"""A host's answer, and whether it can be a video."""

import re
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

import httpcore2
import httpx2

from foremask.errors import (
    ClipRefused,
    EmptyFile,
    FileTooLarge,
    NotAVideo,
    UrlForbidden,
    UrlRefused,
    UrlStatus,
    UrlUnreachable,
    VideoInvalid,
)

IDLE_S = 15.0  # nothing arrives for this long: the origin is gone

_PAGE = re.compile(rb"<(!doctype html|html|head|body|script|title|!--)", re.IGNORECASE)
_JSON = re.compile(rb"[{\[]\s*[\"{}\[\]\d]")
_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml", "application/json", "text/json"})
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of a response, and its body as it comes."""

    url: httpx2.URL
    response: httpcore2.Response

    @property
    def status(self) -> int:
        return self.response.status

    def header(self, name: str) -> str:
        wanted = name.encode("ascii")
        return next(
            (v.decode("latin-1") for k, v in self.response.headers if k.lower() == wanted), ""
        )

    @property
    def length(self) -> int | None:
        declared = self.header("content-length")
        return int(declared) if re.fullmatch(r"[0-9]{1,18}", declared) else None

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body in pieces of at most 64 KiB; raises UrlUnreachable when it breaks off."""
        with translated_errors():
            async for chunk in self.response.aiter_stream():
                yield chunk

    async def read(self, n: int) -> bytes:
        """The first ``n`` bytes of the body; the end of a shorter one frees the connection."""
        got = bytearray()
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                got += chunk
                if len(got) > n:
                    break
        return bytes(got[:n])


@contextmanager
def translated_errors() -> Generator[None]:
    """Turn network errors into ours, without their text, which has addresses in it."""
    try:
        yield
    except (httpcore2.ConnectTimeout, httpcore2.ConnectError) as error:
        if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
            raise UrlUnreachable(
                "No TLS connection could be made; see whether the certificate is for this host."
            ) from error
        raise UrlUnreachable("The host does not accept a connection.") from error
    except httpcore2.TimeoutException as error:
        raise UrlUnreachable(f"The host fell silent for {IDLE_S:g} s.", limit=IDLE_S) from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise UrlUnreachable("The host broke off, or does not speak HTTP.") from error


@contextmanager
def named(param: str) -> Generator[None]:
    """Let an error of a clip or its URL name the field in which the caller sent it."""
    try:
        yield
    except (ClipRefused, UrlRefused, VideoInvalid) as refused:
        refused.param = param
        raise


def _causes(error: BaseException | None) -> Generator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_status(answer: Answer) -> None:
    """Raise UrlForbidden, UrlStatus or EmptyFile for all but a 2xx."""
    status = answer.status
    if 200 <= status < 300:
        return
    if status == httpx2.codes.RANGE_NOT_SATISFIABLE and "*/0" in answer.header("content-range"):
        raise EmptyFile("The file has no bytes.")
    kind = UrlForbidden if status in (401, 403) else UrlStatus
    raise kind(f"The host answered with status {status}.", actual=status)


def check_type(answer: Answer) -> None:
    """Raise NotAVideo where the host itself calls it a page, data, or compressed."""
    media_type = answer.header("content-type").partition(";")[0].strip().lower()
    if media_type in _PAGE_TYPES or media_type.endswith("+json"):
        raise NotAVideo(f"The host sent {media_type}. Use the URL of the video file itself.")
    coding = answer.header("content-encoding").strip().lower()
    if coding in _COMPRESSED:
        raise NotAVideo(f"The host sent the file compressed ({coding}), though not asked to.")


def check_content(head: bytes) -> None:
    """Raise NotAVideo where the first bytes are HTML or JSON, EmptyFile where there are none."""
    if not head:
        raise EmptyFile("The file has no bytes.")
    text = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    if _PAGE.match(text) or _JSON.match(text):
        raise NotAVideo("The host sent a web page or JSON. Use the URL of the video file itself.")


def check_size(size: int | None, max_bytes: int) -> None:
    """Raise FileTooLarge for more than ``max_bytes``; an unknown size passes."""
    if size is not None and size > max_bytes:
        raise FileTooLarge(
            f"The file has {size} bytes or more; the limit is {max_bytes}.",
            limit=max_bytes,
            actual=size,
        )
