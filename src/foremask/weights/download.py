"""Downloads a file of known size over HTTP, and goes on where an earlier download ended."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:  # importing httpx2 takes a tenth of a second
    import httpx2

OnBytes = Callable[[int, int], object]
"""Called with the number of bytes that have arrived, and with the size of the file."""

CONNECT_S: Final = 15.0
SILENT_S: Final = 30.0  # longest time without new bytes
PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0)  # before the next attempt, after one that brought nothing
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that may be gone soon
_NO_HEADERS: Final = MappingProxyType[str, str]({})


class NotDownloaded(Exception):
    """The text is a sentence that begins with the server's name."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status
        """Of the answer; 0 without one."""


class _PassingTrouble(NotDownloaded):
    """The next attempt may succeed."""


def refused(host: str, status: int) -> NotDownloaded:
    if status in PASSING:
        return _PassingTrouble(f"{host} answered {status}", status)
    if status in (401, 403):
        return NotDownloaded(f"{host} refuses it ({status})", status)
    if status == 404:
        return NotDownloaded(f"{host} does not have it (404)", status)
    return NotDownloaded(f"{host} answered {status}", status)


class Download:
    """One download into ``part``; what has arrived stays there, and the next one asks for the rest.

    The caller must check the hash. ``on_bytes`` may raise to abort.
    """

    def __init__(
        self,
        url: str,
        part: Path,
        size_bytes: int,
        on_bytes: OnBytes,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        self._url = url
        self._host = host_of(url)
        self._part = part
        self._size_bytes = size_bytes
        self._on_bytes = on_bytes
        self._headers = headers
        self._most_bytes = 0  # of all attempts

    def run(self) -> None:
        """Try until the file is whole; give up after some attempts that have brought nothing.

        Raises NotDownloaded, or OSError for an error of the disk.
        """
        import httpx2

        timeout = httpx2.Timeout(SILENT_S, connect=CONNECT_S)
        in_vain = 0
        while self.here_bytes() != self._size_bytes:
            before = self._most_bytes
            try:
                with httpx2.Client(follow_redirects=True, timeout=timeout) as client:
                    self._attempt(client)
            except _PassingTrouble:
                in_vain = 0 if self._most_bytes > before else in_vain + 1
                if in_vain > len(PAUSES_S):
                    raise
                time.sleep(PAUSES_S[max(0, in_vain - 1)])

    def here_bytes(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _attempt(self, client: "httpx2.Client") -> None:
        import httpx2

        here = self.here_bytes()
        headers = {"accept-encoding": "identity", **self._headers}
        if 0 < here < self._size_bytes:
            headers["range"] = f"bytes={here}-"
        try:
            with client.stream("GET", self._url, headers=headers) as response:
                if not 200 <= response.status_code < 300:
                    raise refused(self._host, response.status_code)
                self._store(response, here)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
            raise NotDownloaded(f"{self._host} cannot be asked for it ({error})") from error
        except httpx2.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise NotDownloaded(
                    f"{self._host} has a certificate that is signed by nobody whom this machine"
                    " trusts: set SSL_CERT_FILE to your organisation's certificate file"
                ) from error
            reason = str(error) or type(error).__name__
            raise _PassingTrouble(f"{self._host} cannot be reached ({reason})") from error

    def _store(self, response: "httpx2.Response", here: int) -> None:
        goes_on = response.headers.get("content-range", "").startswith(f"bytes {here}-")
        if response.status_code != 206 or not goes_on:
            here = 0
        with self._part.open("ab" if here else "wb") as file:
            for piece in response.iter_raw():  # a chunk size would hold back the last bytes
                here += len(piece)
                if here > self._size_bytes:
                    break
                file.write(piece)
                self._most_bytes = max(self._most_bytes, here)
                self._on_bytes(here, self._size_bytes)
        if here > self._size_bytes:
            self._part.unlink()
            raise NotDownloaded(f"{self._host} sends more than its {self._size_bytes} bytes")
        if here < self._size_bytes:
            raise _PassingTrouble(f"{self._host} sent {here} bytes of {self._size_bytes}")


def host_of(url: str) -> str:
    """The host and port, without a login."""
    return urlsplit(url).netloc.rpartition("@")[2]
