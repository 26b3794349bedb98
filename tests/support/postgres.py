"""Real PostgreSQL servers; `tcp_server` wants a password, as an operator's own server does."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import LiteralString
from unittest.mock import patch

import psycopg

from foremask.service.run import bundled_postgres
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from tests.support.http_server import free_port
from tests.support.patience import wait_until


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that any user can enter, unlike pytest's own: root's server is another user."""
    path = Path(tempfile.mkdtemp(prefix="foremask-test-"))
    path.chmod(0o755)
    yield path
    with suppress(FileNotFoundError):
        shutil.rmtree((path / "postgres").resolve(), ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def started(root: Path, binaries: Path | None = None) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(root, binaries)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def asked(server: EmbeddedPostgres, statement: LiteralString = "select 42") -> object:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(statement).fetchone()
    return row and row[0]


@contextmanager
def read_only(server: EmbeddedPostgres) -> Iterator[None]:
    """Refuse writes in all sessions, as a full disk's operator or a failover to a standby does."""

    def turn(state: LiteralString) -> None:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"alter system set default_transaction_read_only = {state}")
            connection.execute("select pg_reload_conf()")
        wait_until(lambda: asked(server, "show default_transaction_read_only") == state)

    turn("on")
    try:
        yield
    finally:
        turn("off")


@contextmanager
def without_connections(server: EmbeddedPostgres) -> Iterator[None]:
    """End all sessions, and hold every connection that the server allows."""
    with ExitStack() as held:
        for _ in range(3):  # a pool may be quicker than we are, twice
            with suppress(psycopg.OperationalError):
                while True:
                    by = held.enter_context(psycopg.connect(server.url, autocommit=True))
                    by.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity where backend_type"
                        " = 'client backend' and application_name <> 'held'"
                        " and pid <> pg_backend_pid()"
                    )
                    by.execute("set application_name = 'held'")
        yield


def installed() -> list[Path]:
    """Return the program directories of the PostgreSQL versions that this machine has."""
    return [each.parent for each in Path("/usr/lib/postgresql").glob("*/bin/postgres")]


@contextmanager
def tcp_server(root: Path) -> Iterator[str]:
    password, port = secrets.token_urlsafe(16), free_port()
    listening = {"listen_addresses": "127.0.0.1", "port": str(port)}
    with patch.dict(bundled_postgres.OPTIONS, listening), started(root) as server:
        with psycopg.connect(f"{server.url}&port={port}", autocommit=True) as connection:
            connection.execute(f"create role foremask login password '{password}'".encode())
            connection.execute("create database foremask owner foremask")
            reported = connection.execute("show hba_file").fetchone()
            assert reported is not None
            rules = Path(reported[0])
            rules.write_text(f"host all all all scram-sha-256\n{rules.read_text()}")
            connection.execute("select pg_reload_conf()")
        yield f"postgresql://foremask:{password}@127.0.0.1:{port}/foremask"
