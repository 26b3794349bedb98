"""The operator's settings, read from ``FOREMASK_*`` variables and flags when a process starts."""

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from enum import EnumType
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import Meta, Struct, field

from foremask.errors import FieldInvalid, SettingsInvalid
from foremask.machine import paths
from foremask.options import (
    DEVICE_GRAMMAR,
    AnyCase,
    Device,
    Limits,
)

PREFIX: Final = "FOREMASK_"
NOT_OURS: Final = frozenset({"FOREMASK_DATA", "FOREMASK_SERVER", "FOREMASK_TOKEN"})
"""Variables of tests and of `foremask submit`, which are not settings."""
SECRETS: Final = frozenset({"database_url", "objects_url", "mirror", "bootstrap_token", "otlp_url"})
"""Fields whose values are left out of ``repr`` and of errors."""


class Sandbox(AnyCase):
    REQUIRE = "require"
    BEST_EFFORT = "best-effort"
    EVEN_ROOT = "even-root"
    OFF = "off"


class Inputs(AnyCase):
    CONTRACT = "contract"
    ALL = "all"


class LogLevel(AnyCase):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(AnyCase):
    AUTO = "auto"
    PLAIN = "plain"
    JSON = "json"


def _url(*schemes: str) -> Meta:
    named = " or ".join(f"{scheme}://" for scheme in schemes)
    return Meta(pattern=f"^({'|'.join(schemes)})://", title=f"a URL that starts with {named}")


HttpUrl = Annotated[str, _url("http", "https")]
Token = Annotated[
    str,
    Meta(pattern="^[!-~]{16,200}$", title="16 to 200 printable ASCII characters without a space"),
]


def _whole(least: int, most: int) -> Meta:
    return Meta(ge=least, le=most, title=f"a whole number from {least} to {most}")


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of one process: docs/settings.md."""

    data_dir: Path = field(default_factory=paths.data_dir)
    database_url: Annotated[str, _url("postgresql", "postgres")] | None = None
    postgres_bin: Path | None = None
    objects_url: Annotated[str, _url("s3", "gs", "az", "file")] | None = None
    public_url: HttpUrl | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, _whole(1, 65535)] = 8000
    workers: Annotated[int, _whole(1, 256)] = 1
    connections: Annotated[int, _whole(16, 100_000)] = 2000
    streams: Annotated[int, _whole(0, 64)] = 1
    stream_fps: Annotated[int, _whole(1, 240)] = 30
    stream_pixels: Annotated[int, _whole(256, 33_177_600)] = 1920 * 1080
    stream_time_s: int = 3600
    allow_private: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    bootstrap_token: Token | None = None
    result_ttl_s: int = 30 * 86400
    inputs: Inputs = Inputs.CONTRACT
    max_frames: Annotated[int, _whole(1, 10_000_000)] = 60 * 120
    job_memory: int | None = None
    storage_per_token: int | None = None
    sandbox: Sandbox = Sandbox.BEST_EFFORT
    device: Device = Device()
    model_dir: Path = field(default_factory=paths.cache_dir)
    mirror: HttpUrl | None = None
    network: str = "isnet"
    networks: tuple[str, ...] = ()
    model_file: Path | None = None
    trackers: tuple[str, ...] = ()
    otlp_url: HttpUrl | None = None
    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.AUTO

    @property
    def base_url(self) -> str:
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the API, and by no other name."""
        if self.public_url is not None:
            return False
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def store_url(self) -> str:
        return self.objects_url or (self.data_dir / "objects").absolute().as_uri()

    def limits(self, memory_bytes: int) -> Limits:
        any_format = self.inputs is Inputs.ALL
        return Limits(max_frames=self.max_frames, memory_bytes=memory_bytes, any_format=any_format)

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in FIELDS if name not in SECRETS)
        return f"Settings({', '.join(shown)})"


FIELDS: Final = {each.name: each.type for each in msgspec.structs.fields(Settings)}


def variable(name: str) -> str:
    """Return the environment variable of a field: FOREMASK_RESULT_TTL for ``result_ttl_s``."""
    return PREFIX + name.removesuffix("_s").upper()


VARIABLES: Final = {variable(name): name for name in FIELDS}


def read_settings(environ: Mapping[str, str], **flags: object) -> Settings:
    """Make the settings from ``environ`` and ``flags``; a flag overrides its variable.

    Flags that are None and empty variables are ignored. Raises SettingsInvalid for an unknown
    ``FOREMASK_*`` variable, and for an invalid value of a variable or a flag.
    """
    given: dict[str, object] = {}
    for name, text in sorted(environ.items()):
        if name.startswith(PREFIX) and name not in NOT_OURS:
            known = VARIABLES.get(name) or _refuse(name)
            if text:
                given[known] = text
    given |= {name: value for name, value in flags.items() if value is not None}
    return Settings(**{name: _converted(name, value) for name, value in given.items()})


def _converted(name: str, value: object) -> Any:  # noqa: ANN401  # the field's type
    kind = FIELDS[name]
    text = str(value).strip()  # a token from a file may end in a newline
    try:
        if name in _PARSERS:
            return _PARSERS[name](text)
        return msgspec.convert(text, kind, strict=False, dec_hook=_path)
    except (msgspec.ValidationError, ValueError) as error:
        metas = get_args(kind) + sum(map(get_args, get_args(kind)), ())
        expected = next((meta.title for meta in metas if isinstance(meta, Meta)), str(error))
        if isinstance(kind, EnumType):
            expected = "one of " + ", ".join(kind)
        got = "the value is not" if name in SECRETS else f"{str(value)!r} is not"
        where = variable(name)
        raise SettingsInvalid(f"{where}: {got} {expected}", param=where) from None


def _path(_kind: type[Any], text: str) -> Path:
    return Path(text).expanduser().absolute()


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if match is None:
        raise ValueError("a duration such as 45s, 30m, 12h or 30d")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _byte_count(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,12})([KMGT]?)", text.upper())
    if match is None:
        raise ValueError("a number of bytes such as 500M, 20G or 2T")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2]]


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))


def _address_ranges(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"networks such as 127.0.0.0/8,10.0.0.0/8 ({error})") from None


def _device(text: str) -> Device:
    try:
        return Device.parse(text)
    except FieldInvalid:
        raise ValueError(f"one of {DEVICE_GRAMMAR}") from None


_PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "allow_private": _address_ranges,
    "networks": _names,
    "result_ttl_s": _seconds,
    "stream_time_s": _seconds,
    "job_memory": _byte_count,
    "storage_per_token": _byte_count,
    "device": _device,
    "trackers": _names,
}
"""Fields whose text msgspec does not read. A ValueError says which texts are valid."""


def _refuse(name: str) -> str:
    known = [each.removeprefix(PREFIX) for each in VARIABLES]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1)
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "docs/settings.md lists all of them"
    raise SettingsInvalid(f"{name} is not a setting: {hint}", param=name)
