import json
import signal
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.support import networks, synth
from tests.support.patience import PATIENCE_S
from tests.support.programs import AT_A_TERMINAL, Run, environ_with, fresh
from tests.support.ray_cluster import ENVIRON, ray_cluster

pytestmark = pytest.mark.linux
CLIPS = [f"clip {number}" for number in range(6)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    clip = synth.write(tmp_path / "clip 0.mp4", synth.Spec(pts=tuple(range(0, 60_000, 1000))))
    (tmp_path / "clips").mkdir()
    for name in CLIPS:
        (tmp_path / f"clips/{name}.mp4").write_bytes(clip.read_bytes())
    for number in range(5):
        for name in (f"done before/{number}.mp4", f"by ray/{number}.mask.mp4"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(clip.read_bytes())
    (tmp_path / "clips/text.mp4").write_text("not a clip\n" * 100)
    networks.redness(tmp_path, bias=-5.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREMASK_MODEL_FILE", str(tmp_path / "redness.onnx"))
    return tmp_path


def started(here: Path, address: str, *more: str) -> Popen[str]:
    words = ["mask", *more, "clips/", "-o", "by ray/", "--ray", address, "--json"]
    environ = environ_with(FOREMASK_MODEL_FILE=str(here / "redness.onnx")) | ENVIRON
    command = [sys.executable, "-c", AT_A_TERMINAL, *words]
    return Popen(command, cwd=here, env=environ, stdout=PIPE, stderr=PIPE, text=True)  # noqa: S603


def until(reached: Callable[[], object]) -> None:
    ends_s = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def masking(here: Path) -> list[Path]:
    return list((here / "by ray").glob(".*.part.mp4"))


def made(here: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (here / "by ray").glob("clip*.mp4")}


def outcomes(lines: str) -> dict[str, str]:
    answers = map(json.loads, lines.splitlines())
    return {Path(each["input"]).stem: each["outcome"] for each in answers}


@pytest.mark.slow
def test_a_folder_is_masked_on_two_nodes_though_one_dies(here: Path, run: Run) -> None:
    """Ctrl-C leaves what is done; the rest is made, though a node dies; bits are the plain ones."""
    run("mask", "clip 0.mp4", "-o", "plain.mp4")
    plain = {f"{name}.mask.mp4": Path("plain.mp4").read_bytes() for name in CLIPS}
    environ = environ_with(FOREMASK_MODEL_FILE=str(here / "redness.onnx"))
    with ray_cluster(environ) as cluster:
        stopped = started(here, cluster.address, "done before/")
        until(lambda: made(here) and masking(here))
        stopped.send_signal(signal.SIGINT)
        out, err = stopped.communicate(timeout=PATIENCE_S)
        assert stopped.returncode == 130, err
        assert "failed: 5 outputs exist already" in err  # more than may wait in Ray
        assert not masking(here)
        assert all(plain[name] == mask for name, mask in made(here).items())
        kept = {name.removesuffix(".mask.mp4") for name in made(here)}

        rest = started(here, cluster.address, "--skip-existing")
        until(lambda: len(masking(here)) == 2)
        cluster.kill_node()
        out, err = rest.communicate(timeout=PATIENCE_S)

        terminated = started(here, cluster.address, "--force")
        until(lambda: masking(here))
        terminated.terminate()
        terminated.communicate(timeout=PATIENCE_S)
        assert terminated.returncode == 143
        assert not masking(here)
    assert rest.returncode == 1, err
    expected = {name: "skipped" if name in kept else "masked" for name in CLIPS}
    assert outcomes(out) == expected | {"text": "failed"}
    assert err.count("its process or node died; it begins again\n") == 1
    assert "1 failed, 1 begun again\n" in err
    assert "failed: clips/text.mp4 [" in err
    assert made(here) == plain


def test_ray_is_imported_when_it_is_asked_for_and_numpy_after_a_task_is_prepared() -> None:
    code = "import sys, foremask.cli.ray_batch; print({'ray', 'numpy'} & sys.modules.keys())"
    assert fresh(code).stdout == "set()\n"


PREPARE = """import os, sys
from foremask.cli.ray_batch import _Caller, _prepare
_prepare(_Caller(sys.argv[1], sys.argv[2], (("MKL_CBWR", "AVX2"),), 1))
variables = map(os.environ.get, ("OMP_NUM_THREADS", "MKL_CBWR"))
print(os.getcwd(), *variables, len(os.sched_getaffinity(0)))
"""


def test_a_task_has_the_commands_folder_and_numeric_variables_and_its_own_cores(
    tmp_path: Path,
) -> None:
    environ = environ_with(OMP_NUM_THREADS="1", MKL_CBWR="SSE2")  # Ray sets the first
    done = fresh(PREPARE, tmp_path, version("foremask"), env=environ)
    assert done.stdout == f"{tmp_path} None AVX2 1\n"
    other = fresh(PREPARE, tmp_path, "0.9", env=environ, check=False)
    assert "has foremask" in other.stderr
    nowhere = fresh(PREPARE, tmp_path / "no", version("foremask"), env=environ, check=False)
    assert "run the command in a folder that all nodes see" in nowhere.stderr


def test_without_ray_the_error_says_what_to_install(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = run.refused("mask", "clips/", "-o", "by ray/", "--ray", "local")
    assert "pip install 'foremask[ray]'" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["clips/", "-o", "masks/", "--ray", "cluster"], "is auto, local or HOST:PORT"),
        (["clips/", "-o", "masks/", "--ray", "127.0.0.1:9"], "nothing answers there"),
        (["clip 0.mp4", "-o", "-", "--ray", "local"], "leave out -"),
        (["clip 0.mp4", "--device", "cuda", "--ray", "local"], "leave out --device cuda"),
    ],
)
def test_what_ray_cannot_do_is_said_before_anything_is_made(
    here: Path, run: Run, words: list[str], said: str
) -> None:
    assert said in run.refused("mask", *words)
    assert not Path("masks").exists()
