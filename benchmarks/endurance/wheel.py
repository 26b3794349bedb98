"""Builds the wheel, installs it into an empty environment, and checks that it masks and serves.

    python -m benchmarks.endurance.wheel [--pipx]

Prints what was measured; ends with 1 when something fails. The weights are the machine's, pulled if
need be.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SAMPLE = "foremask/api/static/sample.webm"
TOKEN = "a-token-for-the-wheel"  # noqa: S105
PATIENCE_S = 600.0
PLAIN = {
    name: text
    for name, text in os.environ.items()
    if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith("FOREMASK_")
}


def main() -> int:
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    with tempfile.TemporaryDirectory(prefix="foremask-wheel-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        _run(uv, "build", "--wheel", "--quiet", "--out-dir", folder, str(ROOT))
        (wheel,) = place.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            archive.extract(SAMPLE, place)
        strays = [name for name in names if not name.startswith(("foremask/", "foremask-"))]
        print(f"wheel: {wheel.stat().st_size / 1e3:.0f} kB, {len(names)} files, strays: {strays}")
        tools = {
            "UV_TOOL_DIR": str(place / "tools"),
            "UV_TOOL_BIN_DIR": str(place / "bin"),
            "PIPX_HOME": str(place / "tools"),
            "PIPX_BIN_DIR": str(place / "bin"),
        }
        install: tuple[str, ...] = (uv, "tool", "install", "--quiet", "--python", sys.executable)
        if "--pipx" in sys.argv:
            install = (uv, "tool", "run", "pipx", "install", "--quiet", "--python", sys.executable)
        seconds = _run(*install, f"{wheel}[npm]", **tools)
        size = sum(each.lstat().st_size for each in (place / "tools").rglob("*"))
        print(f"{' '.join(install[1:4])}: {size / 1e6:.0f} MB in {seconds:.1f} s")
        foremask = str(place / "bin" / "foremask")
        _run(foremask, "models", "pull")
        for words in (("--help",), ("--version",), ("models", "list"), ("doctor", "--json")):
            print(f"foremask {' '.join(words)}: {_run(foremask, *words):.2f} s")
        clip, mask = place / SAMPLE, place / "mask.mp4"
        report = json.loads(_output(foremask, "mask", str(clip), "-o", str(mask), "--json"))
        print(f"foremask mask: {report['frames_out']} frames in {report['seconds']} s")
        _run(foremask, "verify", str(clip), str(mask))
        _serves(foremask, place)
        return 1 if strays else 0


def _serves(foremask: str, place: Path) -> None:
    """Start the service, submit the sample that it serves itself, and fetch the mask."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    site = f"http://127.0.0.1:{port}"
    settings = {
        "FOREMASK_DATA_DIR": str(place / "data"),
        "FOREMASK_PORT": str(port),
        "FOREMASK_BOOTSTRAP_TOKEN": TOKEN,
        "FOREMASK_ALLOW_PRIVATE": "127.0.0.0/8",
    }
    began = time.monotonic()
    with subprocess.Popen(  # noqa: S603
        [foremask, "serve"], env=PLAIN | settings, cwd="/", stdout=subprocess.PIPE, text=True
    ) as service:
        try:
            assert service.stdout is not None  # noqa: S101
            next(line for line in service.stdout if "listens on" in line)
            print(f"foremask serve: answers after {time.monotonic() - began:.1f} s")
            began = time.monotonic()
            made = _ask(
                f"{site}/v2/video/segment/foreground_mask", {"video": f"{site}/static/sample.webm"}
            )
            until = time.monotonic() + PATIENCE_S
            while (reported := _ask(made["status_url"]))["status"] == "IN_PROGRESS":
                if time.monotonic() > until:
                    raise TimeoutError(reported)
                time.sleep(0.2)
            print(f"POST to {reported['status']}: {time.monotonic() - began:.1f} s")
            with urllib.request.urlopen(reported["result"]["mask_url"], timeout=60) as answer:  # noqa: S310
                (place / "served.mp4").write_bytes(answer.read())
        finally:
            service.terminate()
            service.wait(60)
    _run(foremask, "verify", str(place / SAMPLE), str(place / "served.mp4"))


def _ask(url: str, body: dict[str, str] | None = None) -> Any:  # noqa: ANN401
    request = urllib.request.Request(  # noqa: S310
        url,
        None if body is None else json.dumps(body).encode(),
        {"api_token": TOKEN, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)


def _run(*words: str, **more: str) -> float:
    began = time.monotonic()
    _output(*words, **more)
    return time.monotonic() - began


def _output(*words: str, **more: str) -> str:
    return subprocess.run(  # noqa: S603  # our own words
        words, check=True, stdout=subprocess.PIPE, text=True, env=PLAIN | more, cwd="/", timeout=900
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
