"""A real PostgreSQL server that listens on TCP and wants a password, as an operator's own does."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import psycopg

from foremask.service.run import bundled_postgres
from foremask.service.run.bundled_postgres import EmbeddedPostgres


@contextmanager
def tcp_server(root: Path, host: str, port: int) -> Iterator[tuple[EmbeddedPostgres, str]]:
    """The server at ``host``, and the URL by which anybody who gets there connects."""
    server = EmbeddedPostgres(root)
    with patch.dict(bundled_postgres.OPTIONS, {"listen_addresses": host, "port": str(port)}):
        server.start()
        try:
            yield server, _opened(server, host, port)
        finally:
            server.stop()


def _opened(server: EmbeddedPostgres, host: str, port: int) -> str:
    password = secrets.token_urlsafe(16)
    with psycopg.connect(f"{server.url}&port={port}", autocommit=True) as connection:
        connection.execute(f"create role foremask login password '{password}'".encode())
        connection.execute("create database foremask owner foremask")
        reported = connection.execute("show hba_file").fetchone()
        assert reported is not None
        rules = Path(reported[0])
        rules.write_text(f"host all all all scram-sha-256\n{rules.read_text()}")
        connection.execute("select pg_reload_conf()")
    return f"postgresql://foremask:{password}@{host}:{port}/foremask"
