"""The catalogue of neural networks, and the files of their weights."""

import base64
import contextlib
import errno
import hashlib
import json
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from foremask.errors import ModelUnavailable
from foremask.machine import paths
from foremask.machine.locks import locked
from foremask.weights.npm_registry import OnBytes, Package, download

type Divisor = Annotated[float, Meta(gt=0)]


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input and output formats of a network; the defaults are IS-Net's.

    The input is an RGB picture in NCHW order, stretched to a square with sides of ``size_px``; its
    values are ``(x / 255 - mean) / std``. ``output`` is the name of the output; None is the first
    output. The output is the foreground in [0, 1], or its logit if ``sigmoid``.
    """

    size_px: Annotated[int, Meta(ge=32, le=4096)] = 1024
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[Divisor, Divisor, Divisor] = (1.0, 1.0, 1.0)
    output: str | None = None
    sigmoid: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A network; ``resource`` is the key of its weights in the package's resources.json."""

    name: str
    file_name: str
    size_bytes: int
    sha256: str
    spec: ModelSpec
    package: Package
    resource: str


ISNET = Model(
    name="isnet",
    file_name="isnet-general-fp16.onnx",
    size_bytes=88_188_479,
    sha256="b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb",
    spec=ModelSpec(),
    package=Package(
        name="@imgly/background-removal-data",
        version="1.4.5",
        size_bytes=136_455_985,
        sha512="iRXZpPd7YirbJ4eOZ3SlvbdJkAc/LxVjzWLMHOezmRrVThPJPdPc+Y2kHEAVFEVvpDIuvBDyOfTTFBSJT2QR5w==",
    ),
    resource="/models/medium",
)


def model_path(model_dir: Path | None = None, model_file: Path | None = None) -> Path:
    """The path of the weights: ``model_file`` if given, else that of `ISNET` in ``model_dir``.

    Raises ModelUnavailable, with the remedy, if the file is missing or incomplete.
    """
    if model_file is not None:
        if not model_file.is_file():
            raise ModelUnavailable(f"FOREMASK_MODEL_FILE names {model_file}, and no file is there")
        return model_file
    path = (model_dir or paths.cache_dir()) / ISNET.file_name
    if not _is_whole(path, ISNET):
        raise ModelUnavailable(
            f"the model is not in {path.parent}: `foremask models pull` fetches it (136 MB, once)"
        )
    return path


def is_pulled(model_dir: Path) -> bool:
    return _is_whole(model_dir / ISNET.file_name, ISNET)


def side_car_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def compiled_dir_of(path: Path) -> Path | None:
    """The directory for compiled forms of the pulled weights; None for other or missing weights."""
    pulled = path.name == ISNET.file_name and _is_whole(path, ISNET)
    return path.parent / "compiled" if pulled else None


def files_of(path: Path) -> list[Path]:
    """The files and the directory that a process reads which loads the network at ``path``."""
    compiled = compiled_dir_of(path)
    return [path, side_car_of(path), *([compiled] if compiled else [])]


def spec_of(path: Path) -> ModelSpec:
    side_car = side_car_of(path)
    if not side_car.is_file():
        return ISNET.spec
    try:
        return msgspec.json.decode(side_car.read_bytes(), type=ModelSpec)
    except (msgspec.MsgspecError, OSError) as error:
        raise ModelUnavailable(f"{side_car}: {error}; docs/models.md lists the fields") from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pull(
    model_dir: Path | None = None,
    on_bytes: OnBytes = lambda done, total: None,
    *,
    model: Model = ISNET,
    tarball: Path | None = None,
) -> Path:
    """Download the weights into ``model_dir``, unless they are there, and return their path.

    A ``tarball`` replaces the download. Of two pulls at the same time, one downloads and one waits.
    ``on_bytes`` may raise to abort. Raises ModelUnavailable with the remedy.
    """
    target = (model_dir or paths.cache_dir()) / model.file_name
    if _is_whole(target, model):
        return target
    staging = target.with_name(f".pull-{model.name}")
    try:
        staging.mkdir(parents=True, exist_ok=True)
        on_bytes(0, model.package.size_bytes)
        with locked(target.with_name(f".pull-{model.name}.lock")):
            if not _is_whole(target, model):
                staging.mkdir(exist_ok=True)  # another pull may have removed it
                package = tarball or download(model.package, staging, on_bytes)
                _check_tarball(package, model, ours=tarball is None)
                part = staging / "weights.part"
                _unpack(package, part, model)
                part.replace(target)
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise ModelUnavailable(_remedy_for(error, target.parent)) from error
    return target


def _is_whole(path: Path, model: Model) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size == model.size_bytes
    return False


def _remedy_for(error: OSError, model_dir: Path) -> str:
    elsewhere = "set FOREMASK_MODEL_DIR to a directory that"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"the disk is full at {model_dir}: free 300 MB, or {elsewhere} has them"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{model_dir} cannot be written to: {elsewhere} can be"
        case errno.ENOTDIR | errno.EEXIST:
            return f"{model_dir} is not a directory: {elsewhere} is one"
        case _:
            return str(error)


def _check_tarball(package: Path, model: Model, *, ours: bool) -> None:
    with package.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").digest()
    wanted = base64.b64decode(model.package.sha512)
    if found != wanted:
        size_bytes = package.stat().st_size
        if ours:
            package.unlink()
        raise ModelUnavailable(
            f"{package.name} is not the package that is wanted ({size_bytes} bytes of "
            f"{model.package.size_bytes}, SHA-512 {found.hex()[:16]}… instead of "
            f"{wanted.hex()[:16]}…): nothing of it is used; pull again"
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
    if part.stat().st_size != model.size_bytes or sha256_of(part) != model.sha256:
        raise ModelUnavailable(
            f"the weights in {package.name} are not {model.size_bytes} bytes with SHA-256 "
            f"{model.sha256[:16]}…: nothing of them is used"
        )


def _offsets(archive: tarfile.TarFile, package: Path, model: Model) -> dict[str, int]:
    for member in archive.getmembers():
        file = archive.extractfile(member) if member.name.endswith("/resources.json") else None
        if file is not None:
            chunks = json.load(file)[model.resource]["chunks"]
            folder = member.name.removesuffix("resources.json")
            return {folder + each["hash"]: int(each["offsets"][0]) for each in chunks}
    raise ModelUnavailable(f"{package.name} has no resources.json")
