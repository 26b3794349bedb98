"""Builds the wheel, and tests it in a new environment.

    python -m benchmarks.endurance.wheel [--server]

Tests the commands on files without an extra; with ``--server`` also the service, in an environment
with `foremask[server]`. Prints the measurements; the exit code is 1 if something fails. The
weights are those of this machine, pulled if they are missing.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Final

from tests.support import synth
from tests.support.http_server import ask, free_port
from tests.support.patience import wait_until

from benchmarks.service import MASK_PATH, ROOT, TOKEN

SAMPLES: Final = "foremask/service/api/static/samples/"
SAMPLE: Final = "bird.webm"
SITE: Final = "foremask/service/api/site/"
WHEEL_BYTES: Final = 1 << 20  # without samples and documentation
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
        output(uv, "build", "--wheel", "--quiet", "--out-dir", folder, str(ROOT))
        (wheel,) = place.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            files = archive.infolist()
            (place / SAMPLE).write_bytes(archive.read(SAMPLES + SAMPLE))
        own = [each for each in files if not each.filename.startswith((SITE, SAMPLES))]
        size = sum(each.compress_size for each in own)
        strays = [f.filename for f in own if not f.filename.startswith(("foremask/", "foremask-"))]
        assert any(each.filename == "foremask/py.typed" for each in files)  # noqa: S101
        print(f"wheel without documentation and samples: {size / 1e3:.0f} kB, strays: {strays}")
        mask_files(str(installed(uv, str(wheel), place / "plain")), place)
        if "--server" in sys.argv:
            serve(str(installed(uv, f"{wheel}[server]", place / "server")), place)
        return 1 if strays or size > WHEEL_BYTES else 0


def installed(uv: str, wheel: str, place: Path) -> Path:
    where = {"UV_TOOL_DIR": str(place / "tools"), "UV_TOOL_BIN_DIR": str(place / "bin")}
    began = time.monotonic()
    output(uv, "tool", "install", "--quiet", "--python", sys.executable, wheel, **where)
    files = [path for path in (place / "tools").rglob("*") if not path.is_symlink()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    print(f"{place.name}: {megabytes:.0f} MB in {time.monotonic() - began:.1f} s")
    return (place / "bin" / "foremask").resolve()


def mask_files(program: str, place: Path) -> None:
    clip = synth.write(place / "clip.mp4", synth.Spec(160, 96))
    for words in (("--help",), ("models", "list"), ("doctor", "--json"), ("completion", "bash")):
        began = time.monotonic()
        output(program, *words)
        print(f"foremask {' '.join(words)}: {time.monotonic() - began:.2f} s")
    for command in ("mask", "cutout"):
        report = json.loads(output(program, command, str(clip), "--json"))
        print(f"foremask {command}: {report['frames_out']} frames in {report['seconds']} s")
    output(program, "verify", str(clip), str(clip.with_suffix(".mask.mp4")))
    output(program, "probe", str(clip))
    refused = subprocess.run([program, "serve"], env=PLAIN, capture_output=True, text=True)  # noqa: S603
    if refused.returncode != 2 or "pip install 'foremask[server]'" not in refused.stderr:
        raise SystemExit(f"foremask serve: {refused}")


def serve(program: str, place: Path) -> None:
    port = free_port()
    site = f"http://127.0.0.1:{port}"
    settings = {
        "FOREMASK_DATA_DIR": str(place / "data"),
        "FOREMASK_PORT": str(port),
        "FOREMASK_BOOTSTRAP_TOKEN": TOKEN,
        "FOREMASK_ALLOW_PRIVATE": "127.0.0.0/8",
    }
    with subprocess.Popen(  # noqa: S603
        [program, "serve"], env=PLAIN | settings, cwd="/", stdout=subprocess.PIPE, text=True
    ) as service:
        try:
            assert service.stdout is not None  # noqa: S101
            next(line for line in service.stdout if "listens on" in line)
            began = time.monotonic()
            made = ask(site + MASK_PATH, TOKEN, {"video": f"{site}/static/samples/{SAMPLE}"})

            def over() -> dict[str, Any] | None:
                status: dict[str, Any] = ask(made["status_url"], TOKEN)
                return None if status["status"] == "IN_PROGRESS" else status

            result = wait_until(over)["result"]
            print(f"POST to its mask: {time.monotonic() - began:.1f} s")
            with urllib.request.urlopen(result["mask_url"], timeout=60) as answer:  # noqa: S310
                (place / "served.mp4").write_bytes(answer.read())
        finally:
            service.terminate()
            service.wait(60)
    output(program, "verify", str(place / SAMPLE), str(place / "served.mp4"))


def output(*words: str, **more: str) -> str:
    return subprocess.run(  # noqa: S603  # our own words
        words, check=True, stdout=subprocess.PIPE, text=True, env=PLAIN | more, cwd="/", timeout=900
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
