"""A hub on loopback that answers what a client of the Hugging Face Hub asks for one repository.

As on the real one, small files are redirected within the hub, and weights to another host.
"""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple

from tests.support.http_server import Handler, serving

CACHED = "/api/resolve-cache"
STORED = "/stored"
LARGE_BYTES = 10_000  # a larger file is on another host


class Asked(NamedTuple):
    method: str
    path: str
    range: str | None
    login: str | None


class Hub:
    def __init__(self, repository: str, revision: str, files: dict[str, bytes]) -> None:
        self.url = ""
        self.store_url = ""
        self.root = f"/{repository}/resolve/{revision}/"
        self.files = files
        self.refuses = 0  # the status of all answers, as of a gated repository; 0 lets in
        self.cuts = list[int]()  # of the next answers with weights, how many bytes come
        self.asked = list[Asked]()

    def of_weights(self) -> list[Asked]:
        return [each for each in self.asked if each.path.startswith(STORED)]


class _Answers(Handler, BaseHTTPRequestHandler):
    def __init__(self, *args: object, hub: Hub) -> None:
        self.hub = hub
        super().__init__(*args)  # type: ignore[arg-type]  # socket, address and server

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub = self.hub
        headers = self.headers
        hub.asked.append(Asked(self.command, self.path, headers["Range"], headers["Authorization"]))
        for prefix in (CACHED, STORED):
            if self.path.startswith(f"{prefix}/"):
                self.send_file(hub.files[self.path.removeprefix(f"{prefix}/")])
                return
        name = self.path.removeprefix(hub.root)
        if hub.refuses:
            self.send_nothing(hub.refuses, {"X-Error-Code": "GatedRepo"})
        elif name not in hub.files:
            self.send_nothing(404, {"X-Error-Code": "EntryNotFound"})
        elif len(hub.files[name]) > LARGE_BYTES:
            self.send_nothing(302, {"Location": f"{hub.store_url}{STORED}/{name}"})
        else:
            self.send_nothing(307, {"Location": f"{CACHED}/{name}"})

    def send_nothing(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_file(self, content: bytes) -> None:
        asked = self.headers["Range"]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        body = content[start:]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", self.hub.root.split("/")[-2])
        self.end_headers()
        if self.command == "GET":
            cuts = self.hub.cuts
            is_cut = cuts and self.path.startswith(STORED)
            self.wfile.write(body[: cuts.pop(0)] if is_cut else body)


@contextmanager
def hub_of(repository: str, revision: str, files: dict[str, bytes]) -> Generator[Hub]:
    """The store has another host name than the hub: no login must come to it."""
    hub = Hub(repository, revision, files)
    answers = partial(_Answers, hub=hub)
    with serving(answers) as url, serving(answers) as store_url:
        hub.url = url
        hub.store_url = store_url.replace("127.0.0.1", "localhost")
        yield hub
