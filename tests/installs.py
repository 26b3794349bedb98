"""The package as strangers install it: one command masks a clip, without a cache.

Run ``python -m tests.installs [--wheel FILE] [--way uv|pipx|pip] [--server] [PYTHON...]``. It
builds the wheel, resolves it for each system and beside what others have installed, and installs it
in each way into an empty environment of each interpreter, with an empty model directory. With
``--way``, nothing is resolved; with ``--server``, `foremask[server]` serves a mask, too.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

from foremask.media.verify import verify
from tests.support import synth
from tests.support.http_server import ask, free_port
from tests.support.patience import wait_until

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
SAMPLES = "foremask/service/api/static/samples/"
SITE = "foremask/service/api/site/"
WHEEL_BYTES = 8 << 20  # without samples and documentation
TOKEN = "a-token-for-one-mask"
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
    options.add_argument("--server", action="store_true")
    asked = options.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as name:
        work = Path(name)
        path = work / "path"
        path.mkdir()
        wheel = asked.wheel or built(work)
        failed += inspect(wheel)
        if not asked.way:
            failed += resolve(wheel)
        clip = synth.write(work / "clip.mp4", synth.Spec(160, 96, sound=(synth.Tone(),)))
        for number, python in enumerate(map(interpreter, asked.pythons)):
            for way in asked.way or WAYS:
                began = time.monotonic()
                home = work / f"{way}-{number}"
                try:
                    said = first_mask(way, python, wheel, clip, home, path)
                except (subprocess.SubprocessError, OSError) as error:
                    failed += 1
                    output = getattr(error, "output", "") or ""
                    said = f"FAILED: {error} {output[-1500:]}"
                version = run(python, "-c", "import sys; print(sys.version.split()[0])").strip()
                took_s = time.monotonic() - began
                print(f"{way:<5} {version:<8} {took_s:4.0f} s  {said}", flush=True)  # noqa: T201
        if asked.server:
            print(served_mask(wheel, work / "server"), flush=True)  # noqa: T201
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


def inspect(wheel: Path) -> int:
    """1 if the wheel has files of others, no types, or more bytes than `WHEEL_BYTES`."""
    with zipfile.ZipFile(wheel) as archive:
        files = [f for f in archive.infolist() if not f.filename.startswith((SITE, SAMPLES))]
    names = [each.filename for each in files]
    strays = [name for name in names if not name.startswith(("foremask/", "foremask-"))]
    size = sum(each.compress_size for each in files)
    print(f"{size / 1e3:.0f} kB without documentation and samples, strays: {strays}")  # noqa: T201
    return int(bool(strays) or size > WHEEL_BYTES or "foremask/py.typed" not in names)


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


def environ_of(home: Path, path: Path) -> dict[str, str]:
    """Variables under which all is installed into ``home``; on PATH is ``path`` beside its bin."""
    (home / "bin").mkdir(parents=True)
    environ = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("FOREMASK_", "PYTHONPATH", "VIRTUAL_ENV", "XDG_"))
    }
    return environ | {
        "PATH": os.pathsep.join([str(home / "bin"), str(path)]),
        "HOME": str(home),
        "UV_TOOL_DIR": str(home / "tools"),
        "UV_TOOL_BIN_DIR": str(home / "bin"),
        "UV_CACHE_DIR": run(UV, "cache", "dir").strip(),
        "PIPX_HOME": str(home / "pipx"),
        "PIPX_BIN_DIR": str(home / "bin"),
    }


def first_mask(way: str, python: str, wheel: Path, clip: Path, home: Path, path: Path) -> str:
    """Install, and mask with an empty cache; on PATH is ``path`` alone. Return what each took."""
    environ = environ_of(home, path)
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
    for words in (
        *(("--help",), ("models",), ("doctor", "--json"), ("completion", "bash")),
        *(("cutout", str(clip)), ("verify", str(clip), str(made)), ("probe", str(clip))),
    ):
        run(str(home / "bin" / "foremask"), *words, env=environ)
    clip.with_suffix(".cutout.webm").unlink()
    return (
        f"installed {installed_mb:.0f} MB in {installed_s:.0f} s, weights and first mask in "
        f"{masked_s:.0f} s"
    )


def served_mask(wheel: Path, home: Path) -> str:
    """Install the server extra by uv, and mask a sample of the page over HTTP."""
    environ = environ_of(home, home / "bin") | {"PATH": os.environ["PATH"]}
    words = ("tool", "install", "--quiet", "--python", sys.executable)
    run(UV, *words, f"{wheel}[server]", env=environ)
    port = free_port()
    site = f"http://127.0.0.1:{port}"
    environ |= {
        "FOREMASK_DATA_DIR": str(home / "data"),
        "FOREMASK_PORT": str(port),
        "FOREMASK_BOOTSTRAP_TOKEN": TOKEN,
        "FOREMASK_ALLOW_PRIVATE": "127.0.0.0/8",
    }
    command = [str(home / "bin" / "foremask"), "serve"]
    with subprocess.Popen(  # noqa: S603
        command, env=environ, cwd="/", stdout=subprocess.PIPE, text=True
    ) as service:
        try:
            assert service.stdout is not None
            next(line for line in service.stdout if "listens on" in line)
            began = time.monotonic()
            video = f"{site}/static/samples/bird.webm"
            made = ask(f"{site}/v2/video/segment/foreground_mask", TOKEN, {"video": video})

            def over() -> dict[str, Any] | None:
                status: dict[str, Any] = ask(made["status_url"], TOKEN)
                return None if status["status"] == "IN_PROGRESS" else status

            result = wait_until(over)["result"]
            took_s = time.monotonic() - began
            urllib.request.urlretrieve(result["mask_url"], home / "mask.mp4")  # noqa: S310
        finally:
            service.terminate()
            service.wait(60)
    verify(ROOT / "src" / SAMPLES / "bird.webm", home / "mask.mp4")
    return f"server: POST to its mask in {took_s:.1f} s"


def run(*words: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(  # noqa: S603  # our own words
        words, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
