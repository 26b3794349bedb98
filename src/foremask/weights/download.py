"""Downloads a file of known size over HTTP, and goes on where an earlier download ended."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from foremask.errors import ModelUnavailable

if TYPE_CHECKING:  # importing httpx2 takes a tenth of a second
    import httpx2

OnBytes = Callable[[int, int], object]
"""Called with the number of bytes that have arrived, and with the size of the file."""

CONNECT_S: Final = 15.0
SILENT_S: Final = 30.0  # longest time without new bytes
PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0)  # before the next attempt, after one that brought nothing
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that may be gone soon


class Origin(Protocol):
    """Where a file comes from."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def login_hint(self) -> str:
        """What follows in the error if the server wants another login."""
        ...

    def client(self) -> "httpx2.Client": ...

    def url(self, download: "Download", client: "httpx2.Client") -> str:
        """Return the file's URL; an origin that must ask for it uses `Download.asked`."""
        ...

    def login_for(self, url: str) -> dict[str, str]:
        """Return the headers that ``url`` needs."""
        ...

    def refusal(self, what: str, arrived: str) -> ModelUnavailable:
        """Return the error with the remedy.

        ``what`` ends a sentence that begins with the server's name; ``arrived`` is empty, or says
        how much has come.
        """
        ...


def refused_with(status: int, login_hint: str) -> str:
    """The end of a sentence that begins with the host's name: why it sends no file."""
    if status in (401, 403):
        return f"refuses it ({status}){login_hint}"
    if status == 404:
        return "does not have it (404)"
    return f"answered {status}"


def file_client() -> "httpx2.Client":
    """A client for files on web servers, which follows redirects: the hash decides."""
    import httpx2

    timeout = httpx2.Timeout(SILENT_S, connect=CONNECT_S)
    return httpx2.Client(follow_redirects=True, timeout=timeout)


class _PassingTrouble(Exception):
    """The next attempt may succeed; the text ends a sentence that begins with the host's name."""


class Download:
    """One download into ``part``; what has arrived stays there, and the next one asks for the rest.

    The caller must check the hash. ``on_bytes`` may raise to abort.
    """

    def __init__(self, origin: Origin, part: Path, on_bytes: OnBytes) -> None:
        self._origin = origin
        self._part = part
        self._on_bytes = on_bytes
        self._most_bytes = 0  # of all attempts

    def run(self) -> None:
        """Try until the file is whole; give up after some attempts that have brought nothing.

        Raises ModelUnavailable with the remedy, or OSError for an error of the disk.
        """
        in_vain = 0
        while self.here_bytes() != self._origin.size_bytes:
            before = self._most_bytes
            try:
                with self._origin.client() as client:
                    self._bring(client, self._origin.url(self, client))
            except _PassingTrouble as trouble:
                in_vain = 0 if self._most_bytes > before else in_vain + 1
                if in_vain > len(PAUSES_S):
                    raise self.refusal(str(trouble)) from trouble
                time.sleep(PAUSES_S[max(0, in_vain - 1)])

    def here_bytes(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _bring(self, client: "httpx2.Client", url: str) -> None:
        size_bytes = self._origin.size_bytes
        here = self.here_bytes()
        headers = {"accept-encoding": "identity"}
        if 0 < here < size_bytes:
            headers["range"] = f"bytes={here}-"
        with self.asked(client, url, headers) as response:
            goes_on = response.headers.get("content-range", "").startswith(f"bytes {here}-")
            if response.status_code != 206 or not goes_on:
                here = 0
            with self._part.open("ab" if here else "wb") as file:
                for piece in response.iter_raw():  # a chunk size would hold back the last bytes
                    here += len(piece)
                    if here > size_bytes:
                        break
                    file.write(piece)
                    self._most_bytes = max(self._most_bytes, here)
                    self._on_bytes(here, size_bytes)
        if here > size_bytes:
            self._part.unlink()
            raise self.refusal(f"sends more than its {size_bytes} bytes")
        if here < size_bytes:
            raise _PassingTrouble(f"sent {here} bytes of {size_bytes}")

    @contextmanager
    def asked(
        self, client: "httpx2.Client", url: str, headers: dict[str, str]
    ) -> "Generator[httpx2.Response]":
        import httpx2

        headers |= self._origin.login_for(url)
        try:
            with client.stream("GET", url, headers=headers) as response:
                self._check(response.status_code)
                yield response
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
            raise self.refusal(f"cannot be asked for {url} ({error})") from error
        except httpx2.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ModelUnavailable(
                    f"the certificate of {httpx2.URL(url).netloc.decode()} is signed by nobody whom"
                    " this machine trusts: set SSL_CERT_FILE, or npm's `cafile`, to your"
                    " organisation's certificate file"
                ) from error
            raise _PassingTrouble(f"cannot be reached ({_in_words(error)})") from error

    def _check(self, status: int) -> None:
        if status in PASSING:
            raise _PassingTrouble(f"answered {status}")
        if not 200 <= status < 300:
            raise self.refusal(refused_with(status, self._origin.login_hint))

    def refusal(self, what: str) -> ModelUnavailable:
        arrived = ""
        if self._most_bytes:
            arrived = f"{self._most_bytes / 1e6:.0f} MB have come, and stay; "
        return self._origin.refusal(what, arrived)


def _in_words(error: "httpx2.TransportError") -> str:
    return str(error) or type(error).__name__
