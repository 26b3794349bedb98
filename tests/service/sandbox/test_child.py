"""What a child that was taken over can do: nothing but compute, and write where it was told to."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import uvloop

from foremask.cli.exits import Exit, exit_code
from foremask.errors import SettingsInvalid
from foremask.machine.process_setup import NUMERICS, ONE_THREAD
from foremask.options import Limits
from foremask.service.sandbox import confine, messages
from foremask.service.sandbox.confine import Level, check_level
from foremask.service.sandbox.pool import MediaPool
from foremask.service.worker.process import readable_of
from foremask.settings import ByteCount, Sandbox
from foremask.weights.catalogue import side_car_of
from tests.service.sandbox.misdeeds import Copy, Facts, InAThread, TryAll, pool_of_misdeeds
from tests.support.programs import fresh

pytestmark = pytest.mark.slow


def open_pool(scratch: Path, landlock_at_most: int | None = None) -> MediaPool:
    return pool_of_misdeeds(scratch, sandbox=Sandbox.REQUIRE, landlock_at_most=landlock_at_most)


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncGenerator[MediaPool]:
    async with open_pool(tmp_path / "scratch") as opened:
        yield opened


@pytest.mark.parametrize("landlock", [1, 2, 3, 5, None])
async def test_every_misdeed_is_denied(tmp_path: Path, landlock: int | None) -> None:
    (tmp_path / "in.mp4").write_bytes(b"the clip")
    outside = tmp_path / "private" / "outside"
    outside.parent.mkdir()
    outside.write_bytes(b"not yours")
    async with open_pool(tmp_path / "scratch", landlock) as pool:
        request = TryAll(tmp_path / "in.mp4", tmp_path / "job" / "out.mp4", outside)
        outcomes = await pool.run(request)
    assert len(outcomes) >= 55
    assert {name: how for name, how in outcomes.items() if how == "allowed"} == {}
    assert {name: how for name, how in outcomes.items() if how != "PermissionError"} == {
        "resolve a name": "gaierror"
    }
    assert outside.read_bytes() == b"not yours"
    assert (tmp_path / "in.mp4").read_bytes() == b"the clip"
    assert sorted(os.listdir(outside.parent)) == ["outside"]  # noqa: PTH208
    assert (tmp_path / "job" / "out.mp4").read_bytes() == b"mine"


async def test_threads_are_confined_too(pool: MediaPool, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"not yours")
    assert await pool.run(InAThread(tmp_path / "outside")) == "PermissionError"


@pytest.mark.parametrize("kernels", ["", "OPENBLAS_CORETYPE=Haswell"])
async def test_of_our_environment_only_what_numerics_depend_on_reaches_the_child(
    pool: MediaPool, monkeypatch: pytest.MonkeyPatch, kernels: str
) -> None:
    """Which kernel a library takes decides the last digit of a mask: docs/adr/0041."""
    for name in NUMERICS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FOREMASK_DATABASE_URL", "postgresql://user:secret@host/name")
    if kernels:
        monkeypatch.setenv(*kernels.split("="))
    facts = await pool.run(Facts())
    assert set(facts.environ) <= {"LC_CTYPE", *ONE_THREAD, kernels.partition("=")[0]}
    assert facts.start == (f"{kernels}\0" if kernels else "")
    assert facts.fds <= 5  # three standard ones, the socket, and the directory being listed


def test_no_open_file_is_handed_on_by_the_loop_that_workers_use(tmp_path: Path) -> None:
    """uvloop does not close what its process inherited; the child does, before anything else."""
    (tmp_path / "log").write_text("private")
    with (tmp_path / "log").open() as inherited:
        os.set_inheritable(inherited.fileno(), True)
        assert uvloop.run(_open_files(tmp_path)) <= 5


async def _open_files(scratch: Path) -> int:
    async with pool_of_misdeeds(scratch) as pool:
        return (await pool.run(Facts())).fds


async def test_one_job_does_not_see_the_files_of_another(pool: MediaPool, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"first")
    await pool.run(Copy(tmp_path / "in", tmp_path / "job" / "out"))
    assert (await pool.run(Facts())).files == []


def test_a_process_with_threads_is_not_called_confined(tmp_path: Path) -> None:
    """Landlock would not hold for a thread that is already there, so the process refuses."""
    code = (
        "import threading, time; from foremask.service.sandbox import confine\n"
        "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\n"
        "confine.confine([], [])"
    )
    assert "RuntimeError" in fresh(code, check=False).stderr


@pytest.mark.parametrize("level", [Level(0, True), Level(7, False), Level()])
def test_require_refuses_less_than_the_least_level(level: Level) -> None:
    with pytest.raises(SettingsInvalid, match=r"Landlock v1 .* there is .* could ") as caught:
        check_level(Sandbox.REQUIRE, level, is_root=False)
    assert str(level) in caught.value.details
    assert exit_code(caught.value) == Exit.USAGE
    check_level(Sandbox.REQUIRE, Level(landlock=1, seccomp=True), is_root=True)


def test_root_without_landlock_is_refused_unless_told_otherwise() -> None:
    """A child of root's reads root's files; another user, or `even-root`, is let through."""
    with pytest.raises(SettingsInvalid, match="even-root"):
        check_level(Sandbox.BEST_EFFORT, Level(0, True), is_root=True)
    check_level(Sandbox.BEST_EFFORT, Level(0, True), is_root=False)
    check_level(Sandbox.EVEN_ROOT, Level(), is_root=True)
    check_level(Sandbox.OFF, Level(), is_root=True)


async def test_a_child_below_the_least_level_does_not_work(tmp_path: Path) -> None:
    pool = MediaPool(tmp_path, sandbox=Sandbox.REQUIRE, landlock_at_most=0)
    async with pool:
        with pytest.raises(SettingsInvalid, match="Landlock v1"):
            await pool.run(Facts())


async def test_of_a_model_of_ones_own_only_the_file_is_read(tmp_path: Path) -> None:
    model, beside = tmp_path / "models" / "own.onnx", tmp_path / "models" / "private.txt"
    model.parent.mkdir()
    model.write_bytes(b"weights")
    beside.write_bytes(b"not yours")
    side_car_of(model).write_text("{}")
    observed = {}
    async with pool_of_misdeeds(tmp_path / "scratch", readable=readable_of(model)) as pool:
        for path in (model, side_car_of(model), beside):
            observed[path.name] = await pool.run(InAThread(path))
    assert observed == {
        "own.onnx": "allowed",
        "own.onnx.json": "allowed",
        "private.txt": "PermissionError",
    }


async def test_off_confines_nothing_and_says_so(tmp_path: Path) -> None:
    async with pool_of_misdeeds(tmp_path, sandbox=Sandbox.OFF) as pool:
        assert (await pool.run(Facts())).pid > 0
        assert str(pool.level) == "none"


def test_this_machine_can_confine_fully() -> None:
    """The tests mean something only where Landlock and seccomp are there."""
    assert confine.available().full


def test_a_number_of_the_settings_crosses_as_a_number() -> None:
    """``FOREMASK_JOB_MEMORY=20G`` reaches a child as the limit of its job."""
    limits = Limits(memory_bytes=ByteCount.parse("20G"))
    assert messages.decoder(Limits).decode(messages.encoded(limits)) == Limits(
        memory_bytes=20 << 30
    )
