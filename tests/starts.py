"""`make run` and `make mask` in fresh clones of the last commit, as strangers start them.

``python -m tests.starts [--all] [--python PATH] [NAME...]`` runs as root. ``--all`` counts a
situation that this machine does not have as a failure.
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
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foremask.media.verify import verify
from tests.support import synth
from tests.support.http_server import answers, ask, free_port, serving_files

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-of-the-start-script"
READY_S = 600.0  # packages and weights may have to come from their registries
MASKED_S = 300.0
STOPPED_S = 60.0
CLIP = synth.Spec(pts=(0, 1_000, 2_000), sound=(synth.Tone(seconds=0.1),))  # 3 frames
PASSED_ON = ("PIP_", "UV_", "NPM_", "npm_", "SSL_", "REQUESTS_", "NODE_", "LANG")
PROXIES = ("http_proxy", "https_proxy", "no_proxy")


class CannotBeMade(Exception):
    """This machine does not have the situation."""


class Broken(Exception):
    """The start did not end with a mask."""


@dataclass(frozen=True)
class Case:
    clone: Path
    environ: dict[str, str]
    user: int | None = None
    before: tuple[str, ...] = ()
    also_mask: bool = False
    set_up: bool = False


class Machine:
    def __init__(
        self, work: Path, clip: Path, clip_url: str, python: Path, homes: list[Path]
    ) -> None:
        self.work, self.clip, self.clip_url, self.python = work, clip, clip_url, python
        self.homes = homes
        self.models = work / "models"
        here = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foremask"
        if here.is_dir():
            shutil.copytree(here, self.models)
        self.models.mkdir(exist_ok=True)
        self.models.chmod(0o777)
        found = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        self.uv_cache = subprocess.run(  # noqa: S603  # ours
            [found, "cache", "dir"], capture_output=True, text=True, check=True
        ).stdout.strip()
        (work / "bin").mkdir()
        shutil.copy(found, work / "bin" / "uv")

    def nobody(self) -> int:
        """The user without rights, who must be able to run the interpreter."""
        whole = self.python.resolve()
        if not all(each.stat().st_mode & 0o001 for each in (whole, *whole.parents)):
            raise CannotBeMade(f"no other user gets to {self.python}: name another by --python")
        with suppress(KeyError):
            return pwd.getpwnam("nobody").pw_uid
        raise CannotBeMade("there is no user nobody")

    def clone(self, place: Path, user: int | None = None) -> Path:
        place.parent.mkdir(parents=True, exist_ok=True)
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
        path = os.pathsep.join(
            part for part in os.environ["PATH"].split(os.pathsep) if ".venv" not in part
        )
        kept["PATH"] = f"{self.work / 'bin'}{os.pathsep}{path}" if uv else path
        if home is not None:
            kept["HOME"] = str(home)
            kept["FOREMASK_MODEL_DIR"] = str(self.models)
        return kept | {"UV_CACHE_DIR": self.uv_cache}


def _run(*words: str, **more: Any) -> None:  # noqa: ANN401  # subprocess.run's
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)  # noqa: S603
    if done.returncode:
        raise Broken(f"{' '.join(words)}: {(done.stdout + done.stderr)[-1500:]}")


def start(machine: Machine, case: Case) -> None:
    as_user: dict[str, Any] = {}
    if case.user is not None:
        as_user = {"user": case.user, "group": case.user, "extra_groups": []}
    make = (*case.before, "make", "-C", str(case.clone), f"PYTHON={machine.python}")
    if case.set_up:  # by whoever owns the tree; who runs it may not write there
        _run(*make, "setup", env=machine.environ(machine.home(f"{case.clone.name}-setup")))
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    environ = case.environ | {
        "FOREMASK_PORT": str(port),
        "FOREMASK_BOOTSTRAP_TOKEN": TOKEN,
        "FOREMASK_ALLOW_PRIVATE": "127.0.0.0/8",
    }
    log = machine.work / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # our own Makefile
            [*make, "run"],
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **as_user,
        )
        try:
            _wait_ready(base, process, log)
            _mask_over_http(machine, base, log)
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
    if case.also_mask:
        made = case.clone.parent / "made.mp4"
        words = (f"VIDEO={machine.clip}", f"OUT={made}")
        _run(*make, "mask", *words, env=case.environ, **as_user)
        verify(machine.clip, made)
        made.unlink()


def _wait_ready(base: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not answers(f"{base}/readyz"):
        if process.poll() is not None or time.monotonic() > deadline:
            message = log.read_text(errors="replace")[-2500:]
            raise Broken(f"it does not start (exit status {process.poll()}): {message}")
        time.sleep(0.3)


def _mask_over_http(machine: Machine, base: str, log: Path) -> None:
    asked = {"video": machine.clip_url, "quality": "fast"}
    job = ask(f"{base}/v2/video/segment/foreground_mask", TOKEN, asked)
    deadline = time.monotonic() + MASKED_S
    while (status := ask(job["status_url"], TOKEN))["status"] != "COMPLETED":
        if status["status"] == "ERROR" or time.monotonic() > deadline:
            raise Broken(f"no mask: {status}; {log.read_text(errors='replace')[-2500:]}")
        time.sleep(0.3)
    made = machine.work / "mask.mp4"
    urllib.request.urlretrieve(status["result"]["video_url"], made)  # noqa: S310  # the service's
    verify(machine.clip, made)  # frames, times, size and sound are the clip's
    made.unlink()


def closed_home(machine: Machine) -> Case:
    """Root, a clone in a home of mode 0700, and no uv: the first shell of a rented machine."""
    home = machine.home("closed home of root")
    clone = machine.clone(home / "foremask")
    return Case(clone, machine.environ(home, uv=False), also_mask=True)


def ordinary_user(machine: Machine) -> Case:
    """A user without rights and caches, whose home has blanks, a quote and a comma in its name."""
    user = machine.nobody()
    home = machine.home("Jürgen's home, new", user)
    clone = machine.clone(home / "foremask", user)
    environ = machine.environ(home) | {"UV_CACHE_DIR": str(home / ".cache" / "uv")}
    return Case(clone, environ, user, also_mask=True)


def odd_path(machine: Machine) -> Case:
    home = machine.home("odd path")
    return Case(machine.clone(home / "Bücher & 'Filme' neu"), machine.environ(home))


def read_only_tree(machine: Machine) -> Case:
    """Root has set it up, and it runs as a user who cannot write to the clone."""
    user = machine.nobody()
    home = machine.home("home of a reader", user)
    clone = machine.clone(machine.work / "read-only")
    return Case(clone, machine.environ(home), user, set_up=True)


def no_home(machine: Machine) -> Case:
    """No HOME, as in a container: the cache is in the home that passwd names."""
    data = machine.home("data without a home")
    clone = machine.clone(machine.work / "homeless")
    environ = machine.environ(None) | {"FOREMASK_DATA_DIR": str(data)}
    return Case(clone, environ)


def small_tmp(machine: Machine) -> Case:
    """A /tmp of 1 MiB that runs no programs."""
    mount = "mount -t tmpfs -o noexec,size=1m tmpfs /tmp"
    asked = ("unshare", "-m", "sh", "-c", mount)
    tried = subprocess.run(asked, capture_output=True, check=False)  # noqa: S603  # fixed words
    if tried.returncode:
        raise CannotBeMade(f"no mount namespace: {tried.stderr.decode(errors='replace').strip()}")
    home = machine.home("home with a small tmp")
    before = ("unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh")
    return Case(machine.clone(home / "foremask"), machine.environ(home), before=before)


SITUATIONS: dict[str, Callable[[Machine], Case]] = {
    "closed-home": closed_home,
    "ordinary-user": ordinary_user,
    "odd-path": odd_path,
    "read-only-tree": read_only_tree,
    "no-home": no_home,
    "small-tmp": small_tmp,
}


@contextmanager
def _prepared(python: Path) -> Iterator[Machine]:
    work = Path(tempfile.mkdtemp(prefix="foremask-starts-", dir="/var/tmp"))  # /tmp is a situation
    work.chmod(0o755)
    clip = synth.write(work / "clip.mp4", CLIP)
    homes: list[Path] = []
    try:
        with serving_files(work) as url:
            yield Machine(work, clip, f"{url}/clip.mp4", python, homes)
    finally:
        for home in homes:
            for link in (home / ".local/share/foremask/postgres", home / "postgres"):
                if link.is_symlink():  # docs/operations.md: root's database is elsewhere
                    shutil.rmtree(link.resolve(), ignore_errors=True)
        with suppress(OSError):
            Path("/var/lib/foremask").rmdir()
        shutil.rmtree(work, ignore_errors=True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help=", ".join(SITUATIONS))
    options.add_argument("--all", action="store_true", help="what cannot be made is a failure")
    own = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    options.add_argument("--python", type=Path, default=own, help="the interpreter that make gets")
    asked = options.parse_args()
    if os.geteuid() != 0:
        print("NOT MADE: no situation, since this user is not root")  # noqa: T201
        return int(asked.all)
    lost = missing = 0
    with _prepared(asked.python.absolute()) as machine:
        for name in asked.names or SITUATIONS:
            began = time.monotonic()
            try:
                start(machine, SITUATIONS[name](machine))
                outcome = "ok"
            except CannotBeMade as why:
                missing, outcome = missing + 1, f"NOT MADE: {why}"
            except Exception as error:  # noqa: BLE001  # the others are tried all the same
                lost, outcome = lost + 1, f"FAILED: {type(error).__name__}: {error}"
            print(f"{name:<15} {time.monotonic() - began:5.0f} s  {outcome}", flush=True)  # noqa: T201
    print(f"{lost} failed, {missing} could not be made")  # noqa: T201
    return int(lost > 0 or (missing > 0 and asked.all))


if __name__ == "__main__":
    sys.exit(main())
