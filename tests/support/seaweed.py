"""A real S3 server for tests: it checks signatures, as the clouds do."""

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.support.http_server import answers, free_port
from tests.support.patience import wait_until

HOST = "127.0.0.1"
ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-key"
PORTS = [f"{each}.port" for each in ("master", "volume", "filer", "s3")]


@contextmanager
def s3_server(folder: Path) -> Generator[dict[str, str]]:
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    ports = {name: free_port() for each in PORTS for name in (each, f"{each}.grpc")}
    address = f"http://{HOST}:{ports['s3.port']}"
    command = [
        str(Path(sys.executable).parent / "weed"), "server", f"-dir={folder}",
        f"-ip={HOST}", f"-ip.bind={HOST}", *(f"-{name}={port}" for name, port in ports.items()),
        "-master.volumeSizeLimitMB=64", "-volume.max=8", "-filer", "-s3", f"-s3.config={config}",
        "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)  # noqa: S603
        try:

            def up() -> bool:
                assert process.poll() is None, "the S3 server ended"
                return answers(address, 403)  # it wants a signature: it is there

            wait_until(up)
            yield {
                "AWS_ENDPOINT": address,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_REGION": "us-east-1",
            }
        finally:
            process.kill()  # its files go with it
            process.wait()
