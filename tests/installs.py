"""The package as strangers install it: one command masks a clip, without a cache.

Run ``python -m tests.installs [--wheel FILE] [--way uv|pipx|pip] [PYTHON...]``. It builds the
wheel, resolves it for each system and beside what others have installed, and then installs it in
each way into an empty environment of each interpreter, with an empty model directory.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from foremask.media.verify import verify
from tests.support import synth

ROOT = Path(__file__).parents[1]
UV = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
WAYS = ("uv", "pipx", "pip")
VERSIONS = ("3.12", "3.13", "3.14")
SYSTEMS = (
    "x86_64-manylinux_2_28",
    "aarch64-manylinux_2_35",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
)
NEIGHBOURS = {
    "ComfyUI": (
        *("torch", "torchvision", "torchaudio", "numpy>=1.25", "einops", "transformers>=4.50.3"),
        *("tokenizers>=0.13.3", "sentencepiece", "safetensors>=0.4.2", "aiohttp>=3.11.8", "scipy"),
        *("pyyaml", "Pillow", "tqdm", "psutil", "alembic", "SQLAlchemy>=2", "av>=14.2"),
        *("kornia>=0.7.1", "spandrel", "pydantic~=2.0", "pydantic-settings~=2.0"),
    ),
    "Jupyter": (
        *("jupyterlab", "ipywidgets", "pandas", "matplotlib", "scikit-image", "scikit-learn"),
        *("opencv-python", "imageio[ffmpeg]", "moviepy"),
    ),
    "an older NumPy and OpenCV": ("numpy<2.3", "opencv-python-headless<5", "scipy", "numba"),
    "rembg": ("rembg[cpu]",),
}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("pythons", nargs="*", default=[sys.executable])
    options.add_argument("--way", action="append", choices=WAYS)
    options.add_argument("--wheel", type=Path, help="a built wheel")
    asked = options.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as name:
        work = Path(name)
        path = work / "path"
        path.mkdir()
        wheel = asked.wheel or built(work)
        failed += resolve(wheel)
        clip = synth.write(work / "clip.mp4", synth.Spec(160, 96, sound=(synth.Tone(),)))
        for number, python in enumerate(map(interpreter, asked.pythons)):
            for way in asked.way or WAYS:
                began = time.monotonic()
                try:
                    said = first_mask(way, python, wheel, clip, work / f"{way}-{number}", path)
                except (subprocess.SubprocessError, OSError) as error:
                    failed += 1
                    output = getattr(error, "output", "") or ""
                    said = f"FAILED: {error} {output[-1500:]}"
                version = run(python, "-c", "import sys; print(sys.version.split()[0])").strip()
                took_s = time.monotonic() - began
                print(f"{way:<5} {version:<8} {took_s:4.0f} s  {said}", flush=True)  # noqa: T201
    return int(failed > 0)


def interpreter(asked: str) -> str:
    """The path of a Python by its path or version, such as ``3.12``, among those on PATH."""
    if Path(asked).exists():
        return asked
    return run(UV, "python", "find", "--system", asked).strip()


def built(folder: Path) -> Path:
    run(UV, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


def resolve(wheel: Path) -> int:
    """Resolve without building anything, for each system and beside each set of neighbours."""
    failed = 0
    cases: list[tuple[str, str, str, tuple[str, ...]]]
    cases = [(version, system, "", ()) for version in VERSIONS for system in SYSTEMS]
    cases += [("3.12", SYSTEMS[0], name, words) for name, words in NEIGHBOURS.items()]
    for version, system, name, words in cases:
        asked = "\n".join((str(wheel), *words))
        command = [UV, "pip", "compile", "--quiet", "--no-header", "--only-binary", ":all:"]
        command += ["--python-version", version, "--python-platform", system, "-"]
        environ = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
        done = subprocess.run(  # noqa: S603  # our own words
            command, input=asked, env=environ, capture_output=True, text=True, check=False
        )
        count = done.stdout.count("==")
        outcome = f"{count} packages"
        if done.returncode:
            failed += 1
            outcome = f"FAILED: {done.stderr[-1500:]}"
        beside = f", beside {name}" if name else ""
        print(f"resolves for {version}, {system}{beside}: {outcome}", flush=True)  # noqa: T201
    return failed


def first_mask(way: str, python: str, wheel: Path, clip: Path, home: Path, path: Path) -> str:
    """Install, and mask with an empty cache; on PATH is ``path`` alone. Return what each took."""
    (home / "bin").mkdir(parents=True)
    environ = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("FOREMASK_", "PYTHONPATH", "VIRTUAL_ENV", "XDG_"))
    }
    environ |= {
        "PATH": os.pathsep.join([str(home / "bin"), str(path)]),
        "HOME": str(home),
        "UV_TOOL_DIR": str(home / "tools"),
        "UV_TOOL_BIN_DIR": str(home / "bin"),
        "UV_CACHE_DIR": run(UV, "cache", "dir").strip(),
        "PIPX_HOME": str(home / "pipx"),
        "PIPX_BIN_DIR": str(home / "bin"),
    }
    began = time.monotonic()
    match way:
        case "uv":
            run(UV, "tool", "install", "--quiet", "--python", python, str(wheel), env=environ)
        case "pipx":
            tool = (UV, "tool", "run", "--quiet", "--python", sys.executable, "pipx")
            pipx = (*tool, "install", "--quiet", "--python", python)
            run(*pipx, str(wheel), env=environ | {"PATH": os.environ["PATH"]})  # it is a script
        case _:
            run(python, "-m", "venv", str(home / "tools"), env=environ)
            pip = str(home / "tools" / "bin" / "pip")
            run(pip, "install", "--quiet", str(wheel), env=environ)
            (home / "bin" / "foremask").symlink_to(home / "tools" / "bin" / "foremask")
    installed_s = time.monotonic() - began
    files = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
    installed_mb = sum(path.stat().st_size for path in files) / 1e6
    began = time.monotonic()
    made = home / "mask.mp4"
    run(str(home / "bin" / "foremask"), "mask", str(clip), "-o", str(made), env=environ)
    masked_s = time.monotonic() - began
    verify(clip, made)
    return (
        f"installed {installed_mb:.0f} MB in {installed_s:.0f} s, weights and first mask in "
        f"{masked_s:.0f} s"
    )


def run(*words: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(  # noqa: S603  # our own words
        words, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
