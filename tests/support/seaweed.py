"""A real S3 server for tests: it checks signatures, as the clouds do."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.http_server import answers
from tests.support.patience import wait_until

HOST = "127.0.0.1"
ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-key"


def _ports(count: int) -> list[int]:
    """Return free ports; the ports for gRPC, 10 000 higher, are free too."""
    found: list[int] = []
    candidates = iter(range(20_000 + os.getpid() % 20_000, 50_000, 7))
    while len(found) < count:
        port = next(candidates)
        with suppress(OSError):
            for each in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind((HOST, each))
            found.append(port)
    return found


@contextmanager
def s3_server(folder: Path) -> Generator[dict[str, str]]:
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    master, volume, filer, s3 = _ports(4)
    command = [
        str(Path(sys.executable).parent / "weed"), "server", f"-dir={folder}",
        f"-ip={HOST}", f"-ip.bind={HOST}", f"-master.port={master}", f"-volume.port={volume}",
        "-master.volumeSizeLimitMB=64", "-volume.max=8", "-filer", f"-filer.port={filer}",
        "-s3", f"-s3.port={s3}", f"-s3.config={config}",
        "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)  # noqa: S603
        try:

            def up() -> bool:
                assert process.poll() is None, "the S3 server ended"
                return answers(f"http://{HOST}:{s3}/", 403)  # it wants a signature: it is there

            wait_until(up)
            yield {
                "AWS_ENDPOINT": f"http://{HOST}:{s3}",
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_REGION": "us-east-1",
            }
        finally:
            process.kill()  # its files go with it
            process.wait()
