"""Everything an operator can set, read once from ``FOREMASK_*`` and flags at a process's door.

Each field carries its own documentation and parser, from which docs/settings.md is generated.
"""

import dataclasses
import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from foremask import paths
from foremask.errors import FieldInvalid, SettingsInvalid
from foremask.options import DEVICE_GRAMMAR, Device

PREFIX = "FOREMASK_"
NOT_OURS = frozenset({"FOREMASK_DATA", "FOREMASK_SERVER", "FOREMASK_TOKEN"})
"""Known and left alone: the development clips, and what `foremask submit` reads."""

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Sandbox(StrEnum):
    """What happens where the kernel cannot confine the media child; docs/security.md."""

    REQUIRE = "require"
    BEST_EFFORT = "best-effort"
    EVEN_ROOT = "even-root"
    OFF = "off"


class Inputs(StrEnum):
    """Which containers and codecs the API takes; docs/media.md."""

    CONTRACT = "contract"
    ALL = "all"


class LogLevel(StrEnum):
    """The least serious log line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class _Wrong(ValueError):
    """Says what was expected instead; the value itself may be a secret."""


def _text(text: str) -> str:
    return text


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise _Wrong(f"a whole number from {least} to {most}")
        return int(text)

    return read


_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration_s(text: str) -> int:
    """Seconds of ``45``, ``45s``, ``30m``, ``12h`` or ``30d``."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if match is None:
        raise _Wrong("a duration such as 45s, 30m, 12h or 30d")
    return int(match[1]) * _UNITS_S[match[2]]


_UNITS_BYTES = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def _size(text: str) -> int:
    """Bytes of ``1000``, ``500M``, ``20G`` or ``2T``; 1K is 1024."""
    match = re.fullmatch(r"([0-9]{1,12})([KMGT]?)", text.upper())
    if match is None:
        raise _Wrong("a number of bytes such as 500M, 20G or 2T")
    return int(match[1]) << _UNITS_BYTES[match[2]]


def _one_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def read(text: str) -> StrEnum:
        try:
            return kind(text.lower())
        except ValueError:
            raise _Wrong("one of " + ", ".join(kind)) from None

    return read


def _url(*schemes: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if urlsplit(text).scheme not in schemes:
            raise _Wrong("a URL that starts with " + " or ".join(f"{s}://" for s in schemes))
        return text.rstrip("/") if "http" in schemes else text

    return read


def _token(text: str) -> str:
    text = text.strip()  # as the file that it was read from ends
    if not re.fullmatch(r"[!-~]{16,200}", text):
        raise _Wrong("16 to 200 printable ASCII characters without a space")
    return text


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise _Wrong(f"networks such as 127.0.0.0/8,10.0.0.0/8 ({error})") from None


def _device(text: str) -> Device:
    try:
        return Device.parse(text)
    except FieldInvalid:
        raise _Wrong(f"one of {DEVICE_GRAMMAR}") from None


def _documented(
    doc: str, read: Callable[[str], object], *, shown: str | None = None
) -> dict[str, object]:
    """What a field knows of itself; ``shown`` replaces a default that depends on the machine."""
    return {"doc": doc, "read": read, "shown": shown}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process's settings; ``FOREMASK_DATA_DIR`` is ``data_dir``, and so on."""

    data_dir: Path = field(
        default_factory=paths.data_dir,
        metadata=_documented(
            "Directory of the bundled database, the results, the signing key and scratch files.",
            _path,
            shown="`$XDG_DATA_HOME/foremask`, else `~/.local/share/foremask`",
        ),
    )
    database_url: str | None = field(
        default=None,
        repr=False,
        metadata=_documented(
            "Your own PostgreSQL server: `postgresql://user:password@host/name`.",
            _url("postgresql", "postgres"),
            shown="a bundled PostgreSQL under `DATA_DIR`",
        ),
    )
    postgres_bin: Path | None = field(
        default=None,
        metadata=_documented(
            "The directory with `postgres` and `initdb` of another PostgreSQL, 15 or newer, to "
            "run instead of the bundled one: `/usr/lib/postgresql/17/bin`.",
            _path,
            shown="the bundled PostgreSQL's",
        ),
    )
    objects_url: str | None = field(
        default=None,
        repr=False,
        metadata=_documented(
            "Where sources, segments and results are kept: `s3://bucket/prefix`, `gs://…`, "
            "`az://…` or `file:///directory`; credentials come from the cloud's own variables.",
            _url("s3", "gs", "az", "file"),
            shown="a directory under `DATA_DIR`",
        ),
    )
    public_url: str | None = field(
        default=None,
        metadata=_documented(
            "The address at which callers reach the API; status and result URLs start with it.",
            _url("http", "https"),
            shown="`http://HOST:PORT`",
        ),
    )
    host: str = field(
        default="127.0.0.1", metadata=_documented("The address that the API listens on.", _text)
    )
    port: int = field(
        default=8000, metadata=_documented("The port that the API listens on.", _whole(1, 65535))
    )
    workers: int = field(
        default=1,
        metadata=_documented(
            "How many segments this machine masks at the same time; the cores are shared among "
            "them, each needs memory of its own.",
            _whole(1, 256),
        ),
    )
    connections: int = field(
        default=2000,
        metadata=_documented(
            "The most connections at once for each API process; over it the one that has been "
            "silent for longest is closed. Fewer where the limit of open files asks for it.",
            _whole(16, 100_000),
        ),
    )
    idle_timeout_s: int = field(
        default=10,
        metadata=_documented(
            "How long a connection may be kept without a request. Longer than a proxy in front "
            "keeps its own (nginx: 60 s): `65s` there.",
            _duration_s,
            shown="`10s`",
        ),
    )
    allow_private: tuple[Network, ...] = field(
        default=(),
        metadata=_documented(
            "Networks that are not public and yet may be fetched from, for sources and webhooks: "
            "`127.0.0.0/8,10.0.0.0/8`.",
            _networks,
            shown="none",
        ),
    )
    bootstrap_token: str | None = field(
        default=None,
        repr=False,
        metadata=_documented(
            "A token of your own choice that exists from the first start, 16 characters or more.",
            _token,
            shown="the first start makes one and prints it once",
        ),
    )
    result_ttl_s: int = field(
        default=30 * 86400,
        metadata=_documented(
            "How long a result is kept: seconds, or `45s`, `30m`, `12h`, `30d`; `0` keeps it "
            "for good.",
            _duration_s,
            shown="`30d`",
        ),
    )
    inputs: Inputs = field(
        default=Inputs.CONTRACT,
        metadata=_documented(
            "What the API takes: `contract`, the containers and codecs of the hosted service, or "
            "`all` that FFmpeg reads here. Set the same for API and workers.",
            _one_of(Inputs),
        ),
    )
    max_frames: int = field(
        default=60 * 120,
        metadata=_documented(
            "The most frames that a clip may have, with one more tolerated as for the duration; "
            "the default is 60 s at 120 frames a second.",
            _whole(1, 10_000_000),
        ),
    )
    min_bytes_per_second: int = field(
        default=32 << 10,
        metadata=_documented(
            "The least speed of an origin, in bytes a second over 10 s; a slower one is refused "
            "with `url_too_slow`.",
            _whole(0, 1 << 40),
        ),
    )
    job_memory: int | None = field(
        default=None,
        metadata=_documented(
            "Bytes of memory that one mask may take: `8G`. A clip whose frames need more in its "
            "preset is refused with `preset_cannot`. Where API and workers are on different "
            "machines, set the same for all.",
            _size,
            shown="three quarters of the machine's memory, or of the container's, "
            "divided by `FOREMASK_WORKERS`",
        ),
    )
    storage_per_token: int | None = field(
        default=None,
        metadata=_documented(
            "Bytes of uploads, sources of unfinished jobs and results that one token may have "
            "stored: `500M`, `20G`; over it, uploads and jobs are refused with `storage_quota`.",
            _size,
            shown="a quarter of the disk with a local store, no limit with a bucket",
        ),
    )
    network_bytes: int = field(
        default=256 << 20,
        metadata=_documented(
            "Bytes that may be kept with each result, for a day, of the network's results, so that "
            "`refine` takes a fraction of the time: about `0.5M` a frame; `0` keeps nothing.",
            _size,
            shown="`256M`",
        ),
    )
    free_reserve: int | None = field(
        default=None,
        metadata=_documented(
            "Bytes of the disk that are never filled: with less free space, uploads and jobs are "
            "refused with `storage_full` and workers wait.",
            _size,
            shown="a twentieth of the disk, at most `2G`",
        ),
    )
    sandbox: Sandbox = field(
        default=Sandbox.BEST_EFFORT,
        metadata=_documented(
            "Confinement of the process that reads untrusted files: `require` refuses to work "
            "without all of it, `best-effort` takes what the kernel has and says so, but refuses "
            "to work as root without Landlock, `even-root` does not refuse that either, `off` "
            "takes none.",
            _one_of(Sandbox),
        ),
    )
    device: Device = field(
        default=Device(),
        metadata=_documented(
            "Where workers run the network: `auto`, `cpu`, `openvino:GPU`, `onnxruntime`, `cuda:1` "
            "and so on, docs/deployment.md. A GPU needs `FOREMASK_SANDBOX=off`.",
            _device,
            shown="`auto`",
        ),
    )
    model_dir: Path = field(
        default_factory=paths.cache_dir,
        metadata=_documented(
            "Directory of the model and what is compiled from it.",
            _path,
            shown="`$XDG_CACHE_HOME/foremask`, else `~/.cache/foremask`",
        ),
    )
    model_file: Path | None = field(
        default=None,
        metadata=_documented(
            "An ONNX model of your own, used instead of the one in `MODEL_DIR`: docs/models.md.",
            _path,
            shown="none",
        ),
    )
    otlp_url: str | None = field(
        default=None,
        repr=False,
        metadata=_documented(
            "An OpenTelemetry collector that takes OTLP over HTTP, `http://127.0.0.1:4318`: each "
            "job's trace is sent there. Needs `foremask[otel]`; docs/operations.md.",
            _url("http", "https"),
            shown="no traces",
        ),
    )
    log_level: LogLevel = field(
        default=LogLevel.INFO,
        metadata=_documented(
            "The least serious line that is logged: `debug`, `info`, `warning` or `error`.",
            _one_of(LogLevel),
        ),
    )

    @property
    def base_url(self) -> str:
        """What every URL that we hand out starts with, without a slash at its end."""
        if self.public_url is not None:
            return self.public_url
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def variable(name: str) -> str:
    """The environment variable of a field.

    ``RESULT_TTL`` says in its value what ``_s`` says here.
    """
    return PREFIX + name.removesuffix("_s").upper()


_FIELDS = {variable(each.name): each for each in dataclasses.fields(Settings)}


def read_settings(environ: Mapping[str, str], **flags: object) -> Settings:
    """The settings that ``environ`` and ``flags`` make; a flag wins unless it is None.

    An empty variable counts as not set; a flag must keep the rules of its variable.
    Raises SettingsInvalid for an unknown ``FOREMASK_*`` name or a value that cannot be.
    """
    values: dict[str, object] = {}
    for name, text in sorted(environ.items()):
        if name.startswith(PREFIX) and name not in NOT_OURS:
            known = _FIELDS.get(name) or _refuse(name)
            if text:
                values[known.name] = _parse(name, text)
    for flag, value in flags.items():
        if value is not None:
            typed = isinstance(value, str | int | Path)
            values[flag] = _parse(variable(flag), str(value)) if typed else value
    return Settings(**values)  # type: ignore[arg-type]  # each value came from its field's parser


def _parse(name: str, text: str) -> object:
    known = _FIELDS[name]
    read: Callable[[str], object] = known.metadata["read"]
    try:
        return read(text)
    except _Wrong as wrong:
        got = f"{text!r} is not" if known.repr else "the value is not"
        raise SettingsInvalid(f"{name}: {got} {wrong}", param=name) from None


def _refuse(name: str) -> dataclasses.Field[object]:
    known = [each.removeprefix(PREFIX) for each in _FIELDS]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1)
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "docs/settings.md lists all of them"
    raise SettingsInvalid(f"{name} is not a setting: {hint}", param=name)


def markdown_table() -> str:
    """The table of docs/settings.md."""
    rows = ["| setting | default | what it does |", "|---|---|---|"]
    for name, known in _FIELDS.items():
        default = known.metadata["shown"] or f"`{known.default}`"
        rows.append(f"| `{name}` | {default} | {known.metadata['doc']} |")
    return "\n".join(rows) + "\n"
