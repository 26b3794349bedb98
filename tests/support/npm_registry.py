"""An npm registry on loopback with one small package, of the layout of IS-Net's."""

import base64
import hashlib
import io
import json
import ssl
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from foremask.weights.catalogue import Model
from foremask.weights.npm_registry import Package
from tests.support.http_server import Handler, serving

WEIGHTS = b"".join(n.to_bytes(4, "big") for n in range(2560))


def packed() -> bytes:
    chunks = {f"chunk-{start}": WEIGHTS[start : start + 4096] for start in (8192, 0, 4096)}
    listed = [{"hash": name, "offsets": [int(name[6:])]} for name in chunks]
    resources = json.dumps({"/models/tiny": {"chunks": listed}}).encode()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in {**chunks, "other": b"not ours", "resources.json": resources}.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


PACKED = packed()
PACKAGE = Package(
    name="@scope/tiny",
    version="1.0.0",
    size_bytes=len(PACKED),
    sha512=base64.b64encode(hashlib.sha512(PACKED).digest()).decode(),
)
TINY = Model(
    name="tiny",
    size_bytes=len(WEIGHTS),
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    package=PACKAGE,
    resource="/models/tiny",
)

RECORD_PATH = "/@scope%2Ftiny"
TARBALL_PATH = "/@scope/tiny/-/tiny-1.0.0.tgz"


class Registry:
    """What the server answers, and what it was asked: (path, range, login) of each request."""

    def __init__(self) -> None:
        self.url = ""
        self.content = PACKED
        self.takes_ranges = True
        self.cuts = list[int]()  # of the next answers, how many bytes come before the end
        self.statuses = list[int]()  # of the next answers
        self.tarball_url = ""  # the server's own by default
        self.asked = list[tuple[str, str | None, str | None]]()

    @property
    def downloads(self) -> list[str | None]:
        return [range_ for path, range_, _ in self.asked if path.endswith(".tgz")]

    def record(self) -> bytes:
        tarball = self.tarball_url or f"{self.url}{TARBALL_PATH}"
        return json.dumps({"versions": {"1.0.0": {"dist": {"tarball": tarball}}}}).encode()


class _Answers(Handler, BaseHTTPRequestHandler):
    def __init__(self, *args: object, registry: Registry) -> None:
        self.registry = registry
        super().__init__(*args)  # type: ignore[arg-type]  # socket, address and server

    def do_GET(self) -> None:
        registry = self.registry
        path = urlsplit(self.path).path
        asked = self.headers["Range"]
        registry.asked.append((path, asked, self.headers["Authorization"]))
        status = registry.statuses.pop(0) if registry.statuses else 200
        body = registry.content if path.endswith(TARBALL_PATH) else registry.record()
        start = 0
        if status == 200 and asked and registry.takes_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            status = 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        is_cut = registry.cuts and path.endswith(TARBALL_PATH)
        end = start + registry.cuts.pop(0) if is_cut else len(body)
        self.wfile.write(body[start:end])


@contextmanager
def npm_registry(tls: ssl.SSLContext | None = None) -> Generator[Registry]:
    registry = Registry()
    with serving(partial(_Answers, registry=registry), tls) as url:
        registry.url = url
        yield registry
