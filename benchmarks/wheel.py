"""Build the wheel, install it into an empty environment, and see that it works there.

    python -m benchmarks.wheel [CLIP]

With a CLIP it is masked too. Prints what was measured; ends with 1 when something fails.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    clip = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(prefix="foremask-wheel-") as folder:
        place = Path(folder)
        _run(uv, "build", "--wheel", "--quiet", "--out-dir", folder, str(ROOT))
        (wheel,) = place.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        strays = [name for name in names if not name.startswith(("foremask/", "foremask-"))]
        print(f"wheel: {wheel.stat().st_size / 1e3:.0f} kB, {len(names)} files, strays: {strays}")
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(place / "venv"))
        seconds = _run(
            *(uv, "pip", "install", "--quiet", "--python", str(place / "venv" / "bin" / "python")),
            f"{wheel}[npm]",
        )
        size = sum(each.lstat().st_size for each in (place / "venv").rglob("*"))
        print(f"environment: {size / 1e6:.0f} MB, installed in {seconds:.1f} s")
        foremask = str(place / "venv" / "bin" / "foremask")
        for words in (("--help",), ("--version",), ("models", "list"), ("doctor", "--json")):
            print(f"foremask {' '.join(words)}: {_run(foremask, *words):.2f} s")
        if clip is not None:
            report = _output(foremask, "mask", str(clip), str(place / "mask.mp4"), "--json")
            facts = json.loads(report)
            print(f"mask: {facts['frames_out']} frames in {facts['seconds']} s")
            _run(foremask, "verify", str(clip), str(place / "mask.mp4"))
        return 1 if strays else 0


def _run(*words: str) -> float:
    began = time.monotonic()
    _output(*words)
    return time.monotonic() - began


def _output(*words: str) -> str:
    environ = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(  # noqa: S603  # our own words
        words, check=True, stdout=subprocess.PIPE, text=True, env=environ, cwd="/", timeout=900
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
