"""The bundled PostgreSQL as a process: set up, started, restarted when it dies, stopped.

Only the wheel's binaries are used, not its life-cycle code: docs/adr/0002.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import structlog

from foremask.errors import ServiceUnavailable, SettingsInvalid
from foremask.service.run.parent_death import end_with_us
from foremask.service.run.postgres_home import Home, prepare_home
from foremask.service.run.postgres_programs import (
    bundled_binaries,
    remove_copy,
    runnable,
    server_version,
)

STILL_LEAVING = ("might be running", "still in use")  # the server's words for it
POLL_S = 0.02
STOP_S = 30.0

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
        self._installed = self._binaries = binaries or bundled_binaries()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        root = data_dir / "postgres"
        self._home = Home(root, root / "socket")

    @property
    def url(self) -> str:
        """The server's URL; known once it has been started."""
        return f"postgresql://postgres@/postgres?host={quote(os.fsencode(self._home.sockets))}"

    @property
    def pid(self) -> int | None:
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    def start(self, timeout_s: float = 60.0) -> None:
        """Make the database where there is none, and return when it answers.

        Raises SettingsInvalid when another foremask has the directory, or it is of another major
        version, and ServiceUnavailable when the server cannot run, with the file that is missing,
        or does not start, with the end of its log.
        """
        self._home = prepare_home(self.data_dir)
        self._take()
        try:
            self._binaries = runnable(self._installed, self._home)
            if not (self._home.data / "PG_VERSION").exists():
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
            remove_copy(self._home)
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

    def _take(self) -> None:
        lock = os.open(self._home.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + 2.0  # a foremask that was just killed still holds the lock
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(POLL_S)
                    continue
                os.close(lock)
                raise SettingsInvalid(
                    f"another foremask is using {self.data_dir}: stop it, or name another",
                    param="FOREMASK_DATA_DIR",
                ) from None
            self._lock = lock
            return

    def _initialise(self) -> None:
        """Make a database, renamed when it is complete, since initdb may be killed."""
        fresh = self._home.root / "data.new"
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

    def _launch(self, timeout_s: float) -> None:
        """Start the server; try again while a killed predecessor still holds its files."""
        deadline = time.monotonic() + timeout_s
        log_path = self._home.root / "log"
        while True:
            with log_path.open("ab") as output:
                begun = output.tell()
                self._process = subprocess.Popen(  # noqa: S603  # our own binary, our own arguments
                    [
                        self._binaries / "postgres",
                        *("-D", self._home.data, "-k", self._home.sockets),
                        *(f"--{name}={value}" for name, value in OPTIONS.items()),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env={"PATH": os.defpath, "LC_ALL": "C"},
                    preexec_fn=end_with_us(signal.SIGINT),  # a fast shutdown
                    process_group=0,  # Ctrl-C is for us to pass on
                    **self._home.run_as,
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
        with (self._home.root / "log").open("rb") as written:
            written.seek(begun)
            return written.read()[-1500:].decode(errors="replace").strip()

    def _ready(self) -> bool:
        try:
            lines = (self._home.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        ours = self._process is not None and lines[:1] == [str(self._process.pid)]
        return ours and len(lines) > 7 and lines[7].strip() == "ready"
