"""Brings a network's weights into the models' directory, and checks them."""

import errno
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from foremask.errors import ModelUnavailable
from foremask.machine import paths
from foremask.machine.locks import locked
from foremask.weights.catalogue import ISNET, Archive, Model, sha256_of
from foremask.weights.download import Download, NotDownloaded, OnBytes, host_of


def pull(
    model_dir: Path | None = None,
    on_bytes: OnBytes = lambda done, total: None,
    *,
    model: Model = ISNET,
    brought: Path | None = None,
    mirror: str | None = None,
) -> Path:
    """Download the weights into ``model_dir``, unless they are there, and return their path.

    A file from another machine replaces the download: ``brought`` is the weights, or the archive
    that they come in. ``mirror`` is the URL of a folder with these files, asked instead of the
    model's URLs. Of two pulls at the same time, one downloads and one waits. ``on_bytes`` may raise
    to abort. Raises ModelUnavailable with the remedy.
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
                part = staging / "download.part"
                if brought is None:
                    _download(model, part, on_bytes, mirror)
                else:
                    _copy(brought, part)
                    check_weights(part, _wanted(model, part), model.name, brought.name)
                _weights(model, part).replace(target)
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        needed_bytes = model.download_bytes + model.size_bytes
        raise ModelUnavailable(remedy_for(error, folder, needed_bytes)) from error
    return target


class Wanted(Protocol):
    """What is known of a file before it comes."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def sha256(self) -> str | None: ...


def _wanted(model: Model, file: Path) -> Wanted:
    """The archive of a model that has one, unless the file has the size of its weights."""
    if model.archive is None or file.stat().st_size == model.size_bytes:
        return model
    return model.archive


def _copy(source: Path, part: Path) -> None:
    with source.open("rb") as file, part.open("wb") as copied:
        shutil.copyfileobj(file, copied)
        copied.flush()
        os.fsync(copied.fileno())


def _download(model: Model, part: Path, on_bytes: OnBytes, mirror: str | None) -> None:
    """Download from the first server that sends the right bytes; the next one sends the rest."""
    wanted: Wanted = model.archive or model
    urls = model.urls
    if mirror is not None:
        name = urlsplit(urls[0]).path.rpartition("/")[2]
        urls = (f"{mirror.rstrip('/')}/{name}",)
    reasons = []
    for url in urls:
        download = Download(url, part, wanted.size_bytes, on_bytes)
        needed_bytes = wanted.size_bytes - download.here_bytes()
        if model.archive is not None:
            needed_bytes += model.size_bytes
        if shutil.disk_usage(part.parent).free < needed_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        try:
            download.run()
            check_weights(part, wanted, model.name, host_of(url))
        except (NotDownloaded, ModelUnavailable) as reason:
            reasons.append(str(reason))
        else:
            return
    raise ModelUnavailable(
        f"the weights of {model.name} could not be downloaded: {'; '.join(reasons)}. Check the"
        f" network and HTTPS_PROXY, or fetch {model.urls[-1]} on another machine, and here"
        f" `foremask models pull {model.name} --from FILE`"
    )


def check_weights(file: Path, wanted: Wanted, name: str, source: str) -> None:
    """Delete the file and raise ModelUnavailable if it is not the weights.

    ``name`` is the network's, and ``source`` says in the error what the file is.
    """
    size_bytes = file.stat().st_size
    found = sha256_of(file)
    if size_bytes != wanted.size_bytes or found != wanted.sha256:
        file.unlink()
        raise ModelUnavailable(
            f"{source} is not the weights of {name} ({size_bytes} bytes of"
            f" {wanted.size_bytes}, SHA-256 {found[:16]}… instead of"
            f" {str(wanted.sha256)[:16]}…): nothing of it is used"
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


def _weights(model: Model, part: Path) -> Path:
    """Return the file with the weights: ``part``, or what is unpacked beside it."""
    archive = _wanted(model, part)
    if not isinstance(archive, Archive):
        return part
    weights = part.with_name("weights.part")
    with tarfile.open(part, "r:gz") as tarball, weights.open("wb") as file:
        offsets = _offsets(tarball, archive.resource)
        for member in tarball.getmembers():
            chunk = tarball.extractfile(member) if member.name in offsets else None
            if chunk is not None:
                file.seek(offsets[member.name])
                shutil.copyfileobj(chunk, file)
        file.flush()
        os.fsync(file.fileno())
    check_weights(weights, model, model.name, "what the archive has")
    return weights


def _offsets(tarball: tarfile.TarFile, resource: str) -> dict[str, int]:
    """Where in the weights each member of the tarball belongs."""
    for member in tarball.getmembers():
        file = tarball.extractfile(member) if member.name.endswith("/resources.json") else None
        if file is not None:
            chunks = json.load(file)[resource]["chunks"]
            folder = member.name.removesuffix("resources.json")
            return {folder + each["hash"]: int(each["offsets"][0]) for each in chunks}
    raise ModelUnavailable("the archive has no resources.json")
