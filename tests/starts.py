"""`make run` and `make mask` in fresh clones of the last commit, as strangers start them.

Run ``python -m tests.starts [--python PATH] [NAME...]`` as root.
"""

import argparse
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from foremask.media.verify import verify
from tests.support import synth
from tests.support.http_server import answers, free_port

ROOT = Path(__file__).parents[1]
READY_S = 600.0  # packages and weights may have to come from their registries
MASKED_S = 300.0
STOPPED_S = 60.0
SITUATIONS = ["closed-home", "ordinary-user", "odd-path", "read-only-tree", "no-home", "small-tmp"]
PASSED_ON = ("PIP_", "UV_", "NPM_", "npm_", "SSL_", "REQUESTS_", "NODE_", "LANG")
PROXIES = ("http_proxy", "https_proxy", "no_proxy")


class Broken(Exception):
    """The start did not end with a mask."""


class Machine:
    def __init__(self, work: Path, python: Path) -> None:
        self.work, self.python, self.homes = work, python, list[Path]()
        self.clip = synth.write(
            work / "clip.mp4", synth.Spec(pts=(0, 1_000, 2_000), sound=(synth.Tone(seconds=0.1),))
        )
        self.models = work / "models"
        here = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foremask"
        if here.is_dir():
            shutil.copytree(here, self.models)
        self.models.mkdir(exist_ok=True)
        self.models.chmod(0o777)
        found = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        self.uv_cache = _run(found, "cache", "dir").strip()
        (work / "bin").mkdir()
        shutil.copy(found, work / "bin" / "uv")

    def nobody(self) -> int:
        """The user without rights, who must be able to run the interpreter."""
        whole = self.python.resolve()
        if not all(each.stat().st_mode & 0o001 for each in (whole, *whole.parents)):
            raise Broken(f"no other user can run {self.python}: name another by --python")
        return pwd.getpwnam("nobody").pw_uid

    def clone(self, place: Path, user: int | None = None) -> Path:
        _run("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(place))
        if user is not None:
            _run("chown", "-R", f"{user}", str(place))
        return place

    def home(self, name: str, user: int | None = None) -> Path:
        """An empty home that only its user can enter."""
        place = self.work / name
        place.mkdir(mode=0o700)
        if user is not None:
            os.chown(place, user, -1)
        self.homes.append(place)
        return place

    def environ(self, home: Path | None, *, uv: bool = True) -> dict[str, str]:
        """A stranger's shell, with this machine's registries and caches."""
        kept = {
            name: text
            for name, text in os.environ.items()
            if name.startswith(PASSED_ON) or name.lower() in PROXIES
        }
        folders = [each for each in os.environ["PATH"].split(os.pathsep) if ".venv" not in each]
        kept["PATH"] = os.pathsep.join([str(self.work / "bin")] * uv + folders)
        if home is not None:
            kept["HOME"] = str(home)
            kept["FOREMASK_MODEL_DIR"] = str(self.models)
        return kept | {"UV_CACHE_DIR": self.uv_cache}


def _run(*words: str, **more: Any) -> str:  # noqa: ANN401  # subprocess.run's
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)  # noqa: S603
    if done.returncode:
        raise Broken(f"{' '.join(words)}: {(done.stdout + done.stderr)[-1500:]}")
    return str(done.stdout)


def start(
    machine: Machine,
    clone: Path,
    environ: dict[str, str],
    user: int | None = None,
    before: tuple[str, ...] = (),
    also_mask: bool = False,
    set_up: bool = False,
) -> None:
    as_user: dict[str, Any] = {}
    if user is not None:
        as_user = {"user": user, "group": user, "extra_groups": []}
    make = (*before, "make", "-C", str(clone), f"PYTHON={machine.python}")
    if set_up:  # by the owner of the clone: the user who runs it may not write there
        _run(*make, "setup", env=machine.environ(machine.home(f"{clone.name}-setup")))
    port, token = free_port(), "a-token-of-the-start-script"
    server = {"FOREMASK_SERVER": f"http://127.0.0.1:{port}", "FOREMASK_TOKEN": token}
    own = {"FOREMASK_PORT": str(port), "FOREMASK_BOOTSTRAP_TOKEN": token}
    made, log = machine.work / "made.mp4", machine.work / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # our own Makefile
            [*make, "run"],
            env=environ | own,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **as_user,
        )
        try:
            _wait_ready(server["FOREMASK_SERVER"], process, log)
            submit = (sys.executable, "-m", "foremask", "submit", str(machine.clip))
            words = ("--output", str(made), "--quality", "fast", "--force")
            _run(*submit, *words, env={**os.environ, **server}, timeout=MASKED_S)
            verify(machine.clip, made)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)  # Ctrl-C at a terminal
            try:
                process.wait(STOPPED_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise Broken(f"it does not stop within {STOPPED_S:.0f} s") from None
    with socket.socket() as attempt:
        if attempt.connect_ex(("127.0.0.1", port)) == 0:
            raise Broken("it has stopped, and something still listens")
    if also_mask:
        made = clone.parent / "made.mp4"
        to = (f"VIDEO={machine.clip}", f"OUT={made}")
        _run(*make, "mask", *to, env=environ, **as_user)
        verify(machine.clip, made)


def _wait_ready(base: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not answers(f"{base}/readyz"):
        if process.poll() is not None or time.monotonic() > deadline:
            message = log.read_text(errors="replace")[-2500:]
            raise Broken(f"it does not start (exit status {process.poll()}): {message}")
        time.sleep(0.3)


def start_in(name: str, machine: Machine) -> None:
    match name:
        case "closed-home":  # of root, without uv: the first shell of a rented machine
            home = machine.home("closed home of root")
            clone = machine.clone(home / "foremask")
            start(machine, clone, machine.environ(home, uv=False), also_mask=True)
        case "ordinary-user":  # without rights and caches; blanks, a quote and a comma in the path
            user = machine.nobody()
            home = machine.home("Jürgen's home, new", user)
            clone = machine.clone(home / "foremask", user)
            environ = machine.environ(home) | {"UV_CACHE_DIR": str(home / ".cache" / "uv")}
            start(machine, clone, environ, user, also_mask=True)
        case "odd-path":
            home = machine.home("odd path")
            start(machine, machine.clone(home / "Bücher & 'Filme' neu"), machine.environ(home))
        case "read-only-tree":  # root has set it up; the user cannot write to the clone
            user = machine.nobody()
            home = machine.home("home of a reader", user)
            clone = machine.clone(machine.work / "read-only")
            start(machine, clone, machine.environ(home), user, set_up=True)
        case "no-home":  # as in a container: the cache is in the home that passwd names
            data = machine.home("data without a home")
            clone = machine.clone(machine.work / "homeless")
            start(machine, clone, machine.environ(None) | {"FOREMASK_DATA_DIR": str(data)})
        case "small-tmp":  # of 1 MiB, and it runs no programs
            home = machine.home("home with a small tmp")
            mount = 'mount -t tmpfs -o noexec,size=1m tmpfs /tmp && exec "$@"'
            before = ("unshare", "-m", "sh", "-c", mount, "sh")
            start(machine, machine.clone(home / "foremask"), machine.environ(home), before=before)
        case _:
            raise Broken(f"there is no situation {name}, only {', '.join(SITUATIONS)}")


def _forget(homes: list[Path]) -> None:
    for home in homes:
        for link in (home / ".local/share/foremask/postgres", home / "postgres"):
            if link.is_symlink():  # docs/operations.md: root's database is elsewhere
                shutil.rmtree(link.resolve(), ignore_errors=True)
    with suppress(OSError):
        Path("/var/lib/foremask").rmdir()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help=", ".join(SITUATIONS))
    own = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    options.add_argument("--python", type=Path, default=own, help="the interpreter that make gets")
    asked = options.parse_args()
    failed = 0
    # Not in /tmp, which is itself a situation.
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as work:
        Path(work).chmod(0o755)
        machine = Machine(Path(work), asked.python.absolute())
        for name in asked.names or SITUATIONS:
            began, outcome = time.monotonic(), "ok"
            try:
                start_in(name, machine)
            except Exception as error:  # noqa: BLE001  # the others are tried all the same
                failed, outcome = failed + 1, f"FAILED: {type(error).__name__}: {error}"
            finally:
                _forget(machine.homes)
            print(f"{name:<15} {time.monotonic() - began:5.0f} s  {outcome}", flush=True)  # noqa: T201
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
