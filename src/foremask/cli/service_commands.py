"""``foremask serve``, ``api``, ``worker``: the service's processes."""

import os
import socket
import tempfile
from pathlib import Path

from foremask.cli import model_commands
from foremask.cli.exits import say
from foremask.errors import SettingsInvalid
from foremask.service.api.application import run
from foremask.service.observability.logs import configure_logs
from foremask.service.observability.traces import close_traces, open_traces
from foremask.service.run.serve import serve as run_all
from foremask.service.worker.process import QUEUES, run_worker
from foremask.settings import Settings, read_settings


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    workers: int | None = None,
) -> None:
    """Run the whole service on this machine until Ctrl-C: API, workers and database.

    Args:
        host: The address to listen on; FOREMASK_HOST, else 127.0.0.1.
        port: The port to listen on; FOREMASK_PORT, else 8000.
        data_dir: Where the database and the results are; FOREMASK_DATA_DIR.
        workers: How many segments are masked at the same time; FOREMASK_WORKERS, else 1.
    """
    settings = read_settings(os.environ, host=host, port=port, data_dir=data_dir, workers=workers)
    _check_address(settings)
    _check_data_dir(settings)
    model_commands.ready(settings)
    configure_logs(settings.log_level, "serve")
    run_all(settings, say)


def api(*, host: str | None = None, port: int | None = None) -> None:
    """Run an API process only; FOREMASK_DATABASE_URL names a migrated database.

    Args:
        host: The address to listen on; FOREMASK_HOST, else 127.0.0.1.
        port: The port to listen on; FOREMASK_PORT, else 8000.
    """
    settings = read_settings(os.environ, host=host, port=port)
    _check_address(settings)
    configure_logs(settings.log_level, "api")
    open_traces(settings.otlp_url, "api")
    run(settings)
    close_traces()


def worker(*, queues: str = ",".join(QUEUES), workers: int | None = None) -> None:
    """Run a worker process only; FOREMASK_DATABASE_URL names a migrated database.

    Args:
        queues: The queues that it takes work from, separated by commas.
        workers: How many segments are masked at the same time; FOREMASK_WORKERS, else 1.
    """
    settings = read_settings(os.environ, workers=workers)
    configure_logs(settings.log_level, "worker")
    wanted = [each.strip() for each in queues.split(",") if each.strip()]
    if "masks" in wanted:
        model_commands.ready(settings)
    open_traces(settings.otlp_url, "worker")
    run_worker(settings, wanted, settings.workers)
    close_traces()


def _check_address(settings: Settings) -> None:
    """Raise SettingsInvalid where the API cannot listen: `serve` would restart it for ever."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(address)
    except OSError as error:
        raise SettingsInvalid(
            f"the API cannot listen on port {settings.port} of {settings.host}"
            f" ({error.strerror}): stop what has it, or set another FOREMASK_PORT",
            param="FOREMASK_PORT",
        ) from error


def _check_data_dir(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            pass
    except OSError as error:
        raise SettingsInvalid(
            f"{settings.data_dir} cannot be written to ({error.strerror}): set FOREMASK_DATA_DIR"
            " to a directory that can be",
            param="FOREMASK_DATA_DIR",
        ) from error
