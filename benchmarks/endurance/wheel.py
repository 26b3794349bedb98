"""Builds the wheel and checks what an empty environment with it can do.

    python -m benchmarks.endurance.wheel [--server] [--pipx]

First without an extra: the file commands, `import foremask`, strict types of a user's program. With
``--server`` also the service, in an environment with `foremask[server]`. Prints what was measured;
ends with 1 where something fails. The weights are the machine's, pulled if need be.
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
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tests.support import synth

ROOT = Path(__file__).parents[2]
SAMPLES: Final = "foremask/service/api/static/samples/"
SAMPLE: Final = SAMPLES + "thing.webm"
TOKEN = "a-token-for-the-wheel"  # noqa: S105
PATIENCE_S = 600.0
SITE: Final = "foremask/service/api/site/"
WHEEL_BYTES: Final = 1 << 20
PLAIN = {
    name: text
    for name, text in os.environ.items()
    if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith("FOREMASK_")
}
USERS_PROGRAM = """import sys
import foremask

with foremask.Masker(quality="fast") as masker:
    report = masker.mask_video(sys.argv[1], sys.argv[2], preset="webm_vp9")
share: float = report.coverage
for pts, alpha in foremask.read_masks(report.target):
    share = min(share, float(alpha.max()))
kept = [each.promise for each in foremask.verify(sys.argv[1], report.target)]
print(report.frames_out, len(kept), share)
"""


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
            pages = sum(
                each.compress_size
                for each in archive.infolist()
                if each.filename.startswith((SITE, SAMPLES))
            )
        strays = [name for name in names if not name.startswith(("foremask/", "foremask-"))]
        size = wheel.stat().st_size - pages
        print(
            f"wheel: {size / 1e3:.0f} kB, documentation and samples: {pages / 1e3:.0f} kB,"
            f" strays: {strays}"
        )
        foremask = _installed(uv, str(wheel), place / "plain")
        uvx = (uv, "tool", "run", "--quiet", "--python", sys.executable)
        version = _output(*uvx, "--from", str(wheel), "foremask", "--version")
        print(f"uvx foremask --version: {version.strip()}")
        _masks_files(foremask, place)
        _is_a_library(foremask.with_name("python"), place)
        if "--server" in sys.argv:
            served = _installed(uv, f"{wheel}[server,npm]", place / "server")
            _serves(str(served), place)
        return 1 if strays or size > WHEEL_BYTES else 0


def _installed(uv: str, wheel: str, place: Path) -> Path:
    """Install it as a tool below ``place``; gives the program."""
    where = {
        "UV_TOOL_DIR": str(place / "tools"),
        "UV_TOOL_BIN_DIR": str(place / "bin"),
        "PIPX_HOME": str(place / "tools"),
        "PIPX_BIN_DIR": str(place / "bin"),
    }
    install: tuple[str, ...] = (uv, "tool", "install", "--quiet", "--python", sys.executable)
    if "--pipx" in sys.argv:
        install = (uv, "tool", "run", "pipx", "install", "--quiet", "--python", sys.executable)
    seconds = _run(*install, wheel, **where)
    sizes: Counter[str] = Counter()
    for path in (place / "tools").rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix != ".pyc":
            _, _, inside = str(path).partition("site-packages/")
            package = inside.split("/")[0].removesuffix(".libs").lower()
            names = {"opencv_python_headless": "cv2", "psycopg_binary": "psycopg"}
            sizes[names.get(package, package)] += path.stat().st_size
    most = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in sizes.most_common(8))
    print(f"{place.name}: {sum(sizes.values()) / 1e6:.0f} MB in {seconds:.1f} s; of it {most}")
    return (place / "bin" / "foremask").resolve()


def _masks_files(foremask: Path, place: Path) -> None:
    """A drawn clip, by the commands of files; those of the service say what is missing."""
    program, clip = str(foremask), synth.write(place / "clip.mp4", synth.Spec(160, 96))
    for words in (("--help",), ("models", "list"), ("doctor", "--json")):
        print(f"foremask {' '.join(words)}: {_run(program, *words):.2f} s")
    for command in ("mask", "cutout"):
        report = json.loads(_output(program, command, str(clip), "--json"))
        print(f"foremask {command}: {report['frames_out']} frames in {report['seconds']} s")
    _run(program, "verify", str(clip), str(clip.with_suffix(".mask.mp4")))
    _run(program, "probe", str(clip))
    _run(program, "completion", "bash")
    refused = subprocess.run([program, "serve"], env=PLAIN, capture_output=True, text=True)  # noqa: S603
    assert refused.returncode == 2, refused  # noqa: S101
    assert "pip install 'foremask[server]'" in refused.stderr, refused  # noqa: S101
    print(refused.stderr.strip())


def _is_a_library(python: Path, place: Path) -> None:
    """Time of the import, and a user's program: its strict types, and what it prints."""
    costs = {program: _least(str(python), "-c", program) for program in ("", "import foremask")}
    cost_s = costs["import foremask"] - costs[""]
    print(f"import foremask: {1000 * cost_s:.0f} ms more than Python itself")
    program = place / "program.py"
    program.write_text(USERS_PROGRAM)
    cache = f"--cache-dir={place / 'types'}"
    strictly = ("-m", "mypy", "--strict", cache, f"--python-executable={python}", str(program))
    print(f"mypy --strict: {_output(sys.executable, *strictly).strip()}")
    words = [str(program), str(place / "clip.mp4"), str(place / "made.webm")]
    print(f"it prints: {_output(str(python), *words).strip()}")


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
                f"{site}/v2/video/segment/foreground_mask",
                {"video": f"{site}/static/samples/thing.webm"},
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


def _least(*words: str) -> float:
    return min(_run(*words) for _ in range(7))


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
