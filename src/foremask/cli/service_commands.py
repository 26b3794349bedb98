"""``foremask serve``, ``api``, ``worker``: run the service's processes.

Each command imports what it runs when it runs. At the top of this module, the imports would cost
half a second, even for ``--help``.
"""

import os
import socket
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import replace

from foremask.cli import model_commands
from foremask.cli.exits import say
from foremask.errors import SettingsInvalid
from foremask.settings import Inputs, Settings, read_settings, variable

Host = Annotated[
    str | None, Parameter(help="The address to listen on, by default FOREMASK_HOST or 127.0.0.1.")
]
Port = Annotated[
    int | None, Parameter(help="The port to listen on, by default FOREMASK_PORT or 8000.")
]
Workers = Annotated[
    int | None,
    Parameter(help="Segments masked at the same time, by default FOREMASK_WORKERS or 1."),
]


def serve(
    *, host: Host = None, port: Port = None, data_dir: Path | None = None, workers: Workers = None
) -> None:
    """Run the service.

    Args:
        data_dir: The folder of the database and the results, by default FOREMASK_DATA_DIR.
    """
    from foremask.cli.service_checks import check_data_dir
    from foremask.service.observability.logs import configure_logs
    from foremask.service.run.serve import serve as run_all

    settings = read_settings(os.environ, host=host, port=port, data_dir=data_dir, workers=workers)
    if settings.is_local and not os.environ.get(variable("inputs")):
        settings = replace(settings, inputs=Inputs.ALL)  # docs/adr/0121
    _check_address(settings)
    check_data_dir(settings)
    model_commands.ready_for_jobs(settings)
    configure_logs(settings.log_level, "serve", form=settings.log_format)
    run_all(settings, say)


def api(*, host: Host = None, port: Port = None) -> None:
    from foremask.cli.service_checks import check_data_dir
    from foremask.service.api.application import run
    from foremask.service.observability.logs import configure_logs
    from foremask.service.observability.traces import close_traces, open_traces

    settings = read_settings(os.environ, host=host, port=port)
    _check_address(settings)
    check_data_dir(settings)
    configure_logs(settings.log_level, "api", form=settings.log_format)
    open_traces(settings.otlp_url, "api")
    run(settings)
    close_traces()


def worker(*, queues: str | None = None, workers: Workers = None) -> None:
    """Run a worker.

    Args:
        queues: The queues that the worker takes work from, by default files,masks,webhooks.
    """
    from foremask.cli.service_checks import check_data_dir
    from foremask.service.observability.logs import configure_logs
    from foremask.service.observability.traces import close_traces, open_traces
    from foremask.service.worker.process import QUEUES, run_worker

    settings = read_settings(os.environ, workers=workers)
    check_data_dir(settings)
    configure_logs(settings.log_level, "worker", form=settings.log_format)
    wanted = list(QUEUES)
    if queues is not None:
        wanted = [each.strip() for each in queues.split(",") if each.strip()]
    if "masks" in wanted:
        model_commands.ready_for_jobs(settings)
    open_traces(settings.otlp_url, "worker")
    run_worker(settings, wanted, settings.workers)
    close_traces()


def _check_address(settings: Settings) -> None:
    # Without this check, `serve` would endlessly restart an API that cannot listen.
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
