"""The playground on this machine: its weight, how soon it answers, how soon a mask is there; and its pictures.

``python -m benchmarks.speed.playground [FOLDER]`` runs ``make run`` with a database of its own,
takes the sample through the page in a headless Chromium, and writes screenshots at 360, 1280 and
2560 pixels, light and dark, into FOLDER.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Browser, Page, expect
from tests.support.browser import browsing

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-this-benchmark"  # noqa: S105
WIDTHS = {360: 740, 1280: 900, 2560: 1440}
LOADS = 10
WAIT_MS = 120_000


def weigh(browser: Browser, url: str) -> tuple[float, float, int]:
    """Kilobytes on the wire and off it, and how many files, of a first visit."""
    page = browser.new_page()
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    wire: list[float] = []
    whole: list[int] = []
    session.on("Network.loadingFinished", lambda event: wire.append(event["encodedDataLength"]))
    session.on("Network.dataReceived", lambda event: whole.append(event["dataLength"]))
    page.goto(url)
    page.wait_for_selector("html[data-ready]")
    page.wait_for_timeout(500)
    page.close()
    return sum(wire) / 1000, sum(whole) / 1000, len(wire)


def ready_ms(browser: Browser, url: str) -> float:
    """From navigation to the page's own word that everything can be clicked, with nothing in any cache."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("html[data-ready]")
    took: float = page.evaluate("performance.getEntriesByName('ready')[0].startTime")
    context.close()
    return took


def mask_sample(page: Page) -> None:
    """As a person does it, from the sample to the first frame of the mask."""
    page.get_by_role("button", name="Mask this clip here").click()
    expect(page.locator("#result")).to_be_visible(timeout=WAIT_MS)


def image(page: Page, folder: Path, name: str) -> None:
    """The page as it stands, in each width and both schemes."""
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(400)
            shot = page.screenshot(full_page=width < 500)
            pixels = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)
            assert pixels is not None  # noqa: S101  # a screenshot is a picture
            path = folder / f"{name}-{width}-{scheme}.webp"
            cv2.imwrite(str(path), pixels, [cv2.IMWRITE_WEBP_QUALITY, 82])


def until_ready(url: str) -> None:
    """Wait until the service answers."""
    until = time.monotonic() + 150
    while time.monotonic() < until:
        with suppress(OSError):
            urllib.request.urlopen(f"{url}/readyz", timeout=5).close()  # noqa: S310  # our own
            return
        time.sleep(0.05)
    raise SystemExit("the service did not start")


def start(port: int, data_dir: str) -> "subprocess.Popen[Any]":
    """``make run``, as a stranger types it for the second time.

    Where the environment is not up to date it would be made anew first, without what this program
    needs.
    """
    if subprocess.run(["make", "-q", ".venv/.ready"], cwd=ROOT, check=False).returncode:  # noqa: S607
        raise SystemExit("not a warm machine: run `make setup` first")
    settings = {
        "FOREMASK_PORT": str(port),
        "FOREMASK_DATA_DIR": data_dir,
        "FOREMASK_BOOTSTRAP_TOKEN": TOKEN,
    }
    return subprocess.Popen(
        ["make", "run"],  # noqa: S607
        cwd=ROOT,
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main(folder: Path | None) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="foremask-playground-") as name, browsing() as browser:
        Path(name).chmod(0o755)
        began = time.monotonic()
        service = start(port, name)
        try:
            until_ready(url)
            served_s = time.monotonic() - began
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{url}/#token={TOKEN}")
            mask_sample(page)
            shown_s = time.monotonic() - began
            print(f"make run to the page: {served_s:.1f} s; to the sample's mask: {shown_s:.1f} s")
            if page.locator("#play.playing").count():
                page.locator("#play").click()  # a player without a graphics card takes a core
            wire_kb, whole_kb, files = weigh(browser, url)
            print(f"weight: {wire_kb:.1f} kB in {files} files ({whole_kb:.1f} kB unpacked)")
            took = sorted(ready_ms(browser, url) for _ in range(LOADS))
            print(f"ready after {statistics.median(took):.0f} ms ({took[0]:.0f} to {took[-1]:.0f})")
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                page.locator("#number").fill("31")
                page.locator("#number").press("Enter")
                image(page, folder, "wipe")
                page.get_by_role("radio", name="Cut-out").check()
                image(page, folder, "cutout")
                fresh = browser.new_page()
                fresh.goto(url)
                fresh.wait_for_selector("html[data-ready]")
                image(fresh, folder, "start")
        finally:
            os.killpg(service.pid, signal.SIGTERM)
            service.wait(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
