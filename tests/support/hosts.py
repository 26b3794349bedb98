"""Processes of the service as separate hosts have them: nothing is shared but both URLs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.http_server import free_port
from tests.support.postgres import tcp_server
from tests.support.seaweed import s3_server

WORKER = ("benchmarks.member", "worker")
"""A worker with everything real but the network, which costs nothing."""


@dataclass
class Hosts:
    root: Path
    database_url: str
    store: Mapping[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environ(self, host: str, **more: str) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("FOREMASK_")}
        return kept | {
            **self.store,
            "FOREMASK_DATABASE_URL": self.database_url,
            "FOREMASK_OBJECTS_URL": "s3://masks/foremask",
            "FOREMASK_DATA_DIR": str(self.root / host),
            "FOREMASK_ALLOW_PRIVATE": "127.0.0.0/8,10.0.0.0/8",
            **more,
        }

    def run(self, *command: str) -> str:
        return subprocess.run(  # noqa: S603
            [sys.executable, "-m", "foremask", *command],
            env=self.environ("operator"),
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def start(
        self, host: str, *module: str, within: Sequence[str] = (), **more: str
    ) -> subprocess.Popen[bytes]:
        with (self.root / f"{host}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [*within, sys.executable, "-m", *module],
                env=self.environ(host, **more),
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def log(self, host: str) -> str:
        return (self.root / f"{host}.log").read_text()

    def stop(self) -> None:
        for process in self.started:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.started:
            process.wait(120)


@contextmanager
def connected(root: Path, address: str = "127.0.0.1") -> Iterator[Hosts]:
    """PostgreSQL on TCP and S3 at ``address``, the tables made, and no host yet."""
    root.chmod(0o755)
    for name in ("database", "store"):
        (root / name).mkdir()
    with (
        tcp_server(root / "database", address, free_port(address)) as (_, database_url),
        s3_server(root / "store", address) as store,
    ):
        hosts = Hosts(root, database_url, store)
        hosts.run("migrate")
        try:
            yield hosts
        finally:
            hosts.stop()


def is_gone(process: int) -> bool:
    """Whether it no longer runs; a zombie that its new parent has not buried does not."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"
