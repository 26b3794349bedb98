"""The catalogue of neural networks, and the files of their weights."""

import contextlib
import difflib
import hashlib
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from foremask.errors import FieldInvalid, ModelUnavailable
from foremask.machine import paths

type Divisor = Annotated[float, Meta(gt=0)]
type NetworkName = Literal[
    "isnet", "birefnet-lite", "birefnet", "birefnet-portrait", "birefnet-matting", "ben2",
    "u2net", "u2netp",
]  # fmt: skip
"""The names of the catalogue, for the completion of a shell."""
type Url = Annotated[str, Meta(pattern="^https?://")]
type Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

SIDE_CAR: Final = ".onnx.json"
"""The end of a side car's name, after the network's."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ModelSpec(Struct, frozen=True, forbid_unknown_fields=True):
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


class Licence(Struct, frozen=True, forbid_unknown_fields=True):
    licence: str
    stated_at: Url


class Archive(Struct, frozen=True, forbid_unknown_fields=True):
    """The tarball with the weights in parts, which its resources.json lists under ``resource``."""

    size_bytes: int
    sha256: Sha256
    resource: str


class Model(ModelSpec, frozen=True, kw_only=True):
    """A network: what its side car says, or its entry in the catalogue, which has the same form.

    The weights come from the first of ``urls`` that answers: as a file, or in an ``archive``.
    """

    name: str = ""
    """Not from the side car: it is the name of the file, or of the entry."""
    purpose: str = ""
    file: str | None = None
    """The catalogue's IS-Net only: other weights are in ``NAME.onnx``."""
    size_bytes: Annotated[int, Meta(ge=0)] = 0
    """0 if the side car does not say it: a file of any size is then the network."""
    sha256: Sha256 | None = None
    memory_bytes: int | None = None
    """The most memory of a process that runs the network on the CPU in 32 bits, as measured."""
    code: Licence | None = None
    weights: Licence | None = None
    urls: tuple[Url, ...] = ()
    archive: Archive | None = None

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(*(getattr(self, each) for each in ModelSpec.__struct_fields__))

    @property
    def file_name(self) -> str:
        return self.file or f"{self.name}.onnx"

    @property
    def download_bytes(self) -> int:
        return self.archive.size_bytes if self.archive else self.size_bytes

    @property
    def can_be_pulled(self) -> bool:
        return bool(self.urls) and self.size_bytes > 0 and self.sha256 is not None

    def is_pulled(self, model_dir: Path) -> bool:
        """Return whether the weights are in ``model_dir``, with all their bytes."""
        with contextlib.suppress(OSError):
            status = (model_dir / self.file_name).stat()
            return status.st_size == (self.size_bytes or status.st_size)
        return False


@cache
def catalogue() -> dict[str, Model]:
    raw = resources.files("foremask.weights").joinpath("networks.json").read_bytes()
    entries = msgspec.json.decode(raw, type=dict[str, Model])
    return {name: msgspec.structs.replace(each, name=name) for name, each in entries.items()}


ISNET: Final = catalogue()["isnet"]


def models(model_dir: Path | None = None) -> list[Model]:
    """The networks that have names: the catalogue's, and those with a side car in ``model_dir``."""
    own = (path.name.removesuffix(SIDE_CAR) for path in _dir(model_dir).glob(f"*{SIDE_CAR}"))
    names = [*catalogue(), *sorted(name for name in own if NAME.fullmatch(name))]
    return [model_named(name, model_dir) for name in dict.fromkeys(names)]


def model_named(name: str, model_dir: Path | None = None) -> Model:
    """Return the network ``name``; a side car in ``model_dir`` comes before the catalogue.

    Raises FieldInvalid if there is none, and ModelUnavailable if the side car cannot be read.
    """
    if NAME.fullmatch(name):
        side_car = _dir(model_dir) / f"{name}{SIDE_CAR}"
        if side_car.is_file():
            return msgspec.structs.replace(_read(side_car), name=name, file=None)
        if name in catalogue():
            return catalogue()[name]
    near = difflib.get_close_matches(name, catalogue(), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise FieldInvalid(
        f"no network is named {name[:64]!r}: {hint}`foremask models` lists them", param="network"
    )


def model_path(
    model_dir: Path | None = None, model_file: Path | None = None, network: str = ISNET.name
) -> Path:
    """The path of the weights: ``model_file`` if given, else of ``network`` in ``model_dir``.

    Raises ModelUnavailable, with the remedy, if the file is missing or incomplete.
    """
    if model_file is not None:
        if not model_file.is_file():
            raise ModelUnavailable(f"FOREMASK_MODEL_FILE names {model_file}, and no file is there")
        return model_file
    model = model_named(network, model_dir)
    folder = _dir(model_dir)
    if model.is_pulled(folder):
        return folder / model.file_name
    remedy = f"put {model.file_name} there, beside its side car"
    if model.can_be_pulled:
        named = "" if model.name == ISNET.name else f" {model.name}"
        megabytes = max(1, round(model.download_bytes / 1e6))
        remedy = f"`foremask models pull{named}` fetches it ({megabytes} MB, once)"
    raise ModelUnavailable(f"the model {model.name} is not in {folder}: {remedy}")


def _dir(model_dir: Path | None) -> Path:
    return model_dir or paths.cache_dir()


def side_car_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def compiled_dir_of(path: Path) -> Path | None:
    """The directory for compiled forms of IS-Net's weights; None for other or missing weights."""
    pulled = path.name == ISNET.file_name and ISNET.is_pulled(path.parent)
    return path.parent / "compiled" if pulled else None


def files_of(path: Path) -> list[Path]:
    """The files and the directory that a process reads which loads the network at ``path``.

    IS-Net's weights in the same directory are among them, there or not: hints need them.
    """
    compiled = compiled_dir_of(path)
    isnet = path.parent / ISNET.file_name
    return [*dict.fromkeys([path, side_car_of(path), isnet, *([compiled] if compiled else [])])]


def spec_of(path: Path) -> ModelSpec:
    """The formats of the network at ``path``: its side car's, or the catalogue's, or IS-Net's.

    A file is the catalogue's if it has the name and the number of bytes.
    """
    side_car = side_car_of(path)
    if side_car.is_file():
        return _read(side_car).spec
    for model in catalogue().values():
        if path.name == model.file_name and model.is_pulled(path.parent):
            return model.spec
    return ISNET.spec


def _read(side_car: Path) -> Model:
    try:
        return msgspec.json.decode(side_car.read_bytes(), type=Model)
    except (msgspec.MsgspecError, OSError) as error:
        raise ModelUnavailable(f"{side_car}: {error}; docs/models.md lists the fields") from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
