"""Web servers on loopback, each in a thread of its own, and a real S3 server."""

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.support.patience import PATIENCE_S, wait_until

_http = httpx.Client(timeout=PATIENCE_S, limits=httpx.Limits(max_keepalive_connections=0))
"""One for all: a new client reads the certificates of all authorities, for 15 ms."""


class Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def serving(
    handler: Callable[..., BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None
) -> Generator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    scheme = "http"
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Files(Handler, SimpleHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()


@contextmanager
def serving_files(folder: Path) -> Generator[str]:
    with serving(partial(_Files, directory=str(folder))) as url:
        yield url


def ask(url: str, token: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
    """GET, or POST ``body``, and return the answer's JSON. Raises HTTPStatusError."""
    method, headers = "GET" if body is None else "POST", {"api_token": token}
    answer = _http.request(method, url, json=body, headers=headers)
    return answer.raise_for_status().json()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def answers(url: str, status: int = 200) -> bool:
    try:
        return _http.get(url).status_code == status
    except httpx.TransportError:
        return False


HOST = "127.0.0.1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-access-key", "AWS_SECRET_ACCESS_KEY": "test-secret-key"}
PORTS = [f"{each}.port" for each in ("master", "volume", "filer", "s3")]


@contextmanager
def s3_server(folder: Path) -> Generator[dict[str, str]]:
    """SeaweedFS checks signatures, as the clouds do."""
    ports = {name: free_port() for each in PORTS for name in (each, f"{each}.grpc")}
    environ = os.environ | CREDENTIALS
    address = f"http://{HOST}:{ports['s3.port']}"
    command = [
        str(Path(sys.executable).parent / "weed"), "server", f"-dir={folder}",
        f"-ip={HOST}", f"-ip.bind={HOST}", *(f"-{name}={port}" for name, port in ports.items()),
        "-master.volumeSizeLimitMB=64", "-volume.max=8", "-filer", "-s3",
        "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environ)  # noqa: S603
        try:

            def up() -> bool:
                assert process.poll() is None, "the S3 server ended"
                return answers(address, 403)  # it wants a signature: it is there

            wait_until(up)
            yield CREDENTIALS | {
                "AWS_ENDPOINT": address,
                "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": "us-east-1",
            }
        finally:
            process.kill()  # its files go with it
            process.wait()
