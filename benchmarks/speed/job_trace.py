"""Trace one real job, from POST to webhook, and print it as docs/operations.md shows it.

    python -m benchmarks.speed.job_trace

Starts a whole service on free ports, with the network, a clip drawn by code and a collector of its
own.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support import synth
from tests.support.collector import Collector, Sent, collecting

TOKEN = "a-token-for-this-trace"  # noqa: S105
MINUTES_S = 180.0


class Origin(SimpleHTTPRequestHandler):
    """Gives the clip, and takes the webhook."""

    def do_POST(self) -> None:
        """Take it."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="foremask-trace-") as folder, collecting() as collector:
        root = Path(folder)
        root.chmod(0o755)
        (root / "clips").mkdir()
        pts = synth.even(100, Fraction(10))
        synth.write(root / "clips" / "clip.mp4", synth.Spec(160, 120, pts, last_duration=3000))
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(Origin, directory=str(root / "clips"))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        spans = _traced(root, f"http://127.0.0.1:{server.server_address[1]}", collector)
        server.shutdown()
        server.server_close()
    print(shown(spans))


def shown(spans: list[Sent]) -> str:
    """A trace as JSON, one line a span, with times in ms from its beginning."""
    names = {each.span: each.name for each in spans}
    lines = [
        json.dumps(
            {
                "name": each.name,
                "parent": names.get(each.parent),
                "process": each.process,
                "start_ms": round((each.start_ns - spans[0].start_ns) / 1e6, 1),
                "ms": round((each.end_ns - each.start_ns) / 1e6, 1),
                "attributes": {k: v for k, v in each.facts.items() if k != "request_id"},
            }
        )
        for each in spans
    ]
    head = {"trace": spans[0].trace, "request_id": spans[0].facts["request_id"]}
    return json.dumps(head)[:-1] + ', "spans": [\n' + ",\n".join(lines) + "\n]}"


def _traced(root: Path, site: str, collector: Collector) -> list[Sent]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    environ = os.environ | {
        "FOREMASK_DATA_DIR": str(root / "data"),
        "FOREMASK_PORT": str(port),
        "FOREMASK_ALLOW_PRIVATE": "127.0.0.0/8",
        "FOREMASK_BOOTSTRAP_TOKEN": TOKEN,
        "FOREMASK_OTLP_URL": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    command = [sys.executable, "-m", "foremask", "serve"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as service:  # noqa: S603
        try:
            assert service.stdout is not None  # noqa: S101
            next(line for line in service.stdout if "listens on" in line)
            body = {"video": f"{site}/clip.mp4", "webhook_url": f"{site}/hook"}
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v2/video/segment/foreground_mask",
                json.dumps(body).encode(),
                {"api_token": TOKEN, "Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=60).close()  # noqa: S310
            until = time.monotonic() + MINUTES_S
            while not any(each.name == "webhook" for each in collector.spans):
                if time.monotonic() > until:
                    raise TimeoutError(f"{len(collector.spans)} spans came and no webhook")
                time.sleep(0.1)
        finally:
            service.terminate()
            service.wait(60)
    return collector.trace()


if __name__ == "__main__":
    main()
