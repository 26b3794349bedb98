"""A real S3 server for tests: it checks signatures, as the clouds do."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.support.http_server import answers, free_port
from tests.support.patience import wait_until

HOST = "127.0.0.1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-access-key", "AWS_SECRET_ACCESS_KEY": "test-secret-key"}
PORTS = [f"{each}.port" for each in ("master", "volume", "filer", "s3")]


@contextmanager
def s3_server(folder: Path) -> Generator[dict[str, str]]:
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
