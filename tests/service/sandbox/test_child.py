import os
from functools import partial
from pathlib import Path

import pytest
import uvloop

from foremask.cli.exits import Exit, exit_code
from foremask.errors import SettingsInvalid
from foremask.machine.process_setup import NUMERICS, ONE_THREAD
from foremask.options import Limits
from foremask.service.sandbox import messages
from foremask.service.sandbox.confine import Level, check_level
from foremask.service.worker.process import readable_of
from foremask.settings import ByteCount, Sandbox
from foremask.weights.catalogue import side_car_of
from tests.service.sandbox.misdeeds import Facts, InAThread, TryAll, pool_of_misdeeds
from tests.support.programs import fresh

pytestmark = pytest.mark.slow


open_pool = partial(pool_of_misdeeds, sandbox=Sandbox.REQUIRE)


@pytest.mark.parametrize("landlock", [1, 2, 3, 5, None])
async def test_every_misdeed_is_denied(tmp_path: Path, landlock: int | None) -> None:
    (tmp_path / "in.mp4").write_bytes(b"the clip")
    outside = tmp_path / "private" / "outside"
    outside.parent.mkdir()
    outside.write_bytes(b"not yours")
    async with open_pool(tmp_path / "scratch", landlock_at_most=landlock) as pool:
        request = TryAll(tmp_path / "in.mp4", tmp_path / "job" / "out.mp4", outside)
        outcomes = await pool.run(request)
    assert len(outcomes) >= 55
    assert {name: how for name, how in outcomes.items() if how != "PermissionError"} == {
        "resolve a name": "gaierror"
    }
    assert outside.read_bytes() == b"not yours"
    assert (tmp_path / "in.mp4").read_bytes() == b"the clip"
    assert sorted(os.listdir(outside.parent)) == ["outside"]  # noqa: PTH208
    assert (tmp_path / "job" / "out.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize("kernels", ["", "OPENBLAS_CORETYPE=Haswell"])
async def test_of_our_environment_only_what_numerics_depend_on_reaches_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: str
) -> None:
    for name in NUMERICS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FOREMASK_DATABASE_URL", "postgresql://user:secret@host/name")
    if kernels:
        monkeypatch.setenv(*kernels.split("="))
    async with open_pool(tmp_path) as pool:
        facts = await pool.run(Facts())
    ours = {"LC_CTYPE", "ORT_DISABLE_TELEMETRY", *ONE_THREAD}  # which the child sets itself
    assert set(facts.environ) <= ours | {kernels.partition("=")[0]}
    assert facts.start == (f"{kernels}\0" if kernels else "")


def test_no_open_file_is_handed_on_by_the_loop_that_workers_use(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("private")
    with (tmp_path / "log").open() as inherited:
        os.set_inheritable(inherited.fileno(), True)

        async def open_files() -> int:
            async with pool_of_misdeeds(tmp_path) as pool:
                return (await pool.run(Facts())).fds

        # Three standard ones, the socket, and the directory being listed.
        assert uvloop.run(open_files()) <= 5


def test_a_process_with_threads_is_not_called_confined(tmp_path: Path) -> None:
    code = (
        "import threading, time; from foremask.service.sandbox import confine\n"
        "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\n"
        "confine.confine([], [])"
    )
    assert "RuntimeError" in fresh(code, check=False).stderr


@pytest.mark.parametrize(
    ("wanted", "level", "user", "refusal"),
    [
        (Sandbox.REQUIRE, Level(1, True), 0, None),
        (Sandbox.REQUIRE, Level(0, True), 1, r"Landlock v1 .* there is seccomp: .* could "),
        (Sandbox.REQUIRE, Level(7, False), 1, r"Landlock v1 .* there is landlock v7: .* could "),
        (Sandbox.REQUIRE, Level(), 1, r"Landlock v1 .* there is none: .* could "),
        (Sandbox.BEST_EFFORT, Level(0, True), 0, "even-root"),
        (Sandbox.BEST_EFFORT, Level(0, True), 1, None),
        (Sandbox.EVEN_ROOT, Level(), 0, None),
        (Sandbox.OFF, Level(), 0, None),
    ],
)
def test_the_setting_and_the_user_decide_which_level_is_enough(
    wanted: Sandbox, level: Level, user: int, refusal: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if refusal is None:
        check_level(wanted, level)
    else:
        with pytest.raises(SettingsInvalid, match=refusal) as caught:
            check_level(wanted, level)
        assert exit_code(caught.value) == Exit.USAGE


async def test_a_child_below_the_least_level_does_not_work(tmp_path: Path) -> None:
    async with open_pool(tmp_path, landlock_at_most=0) as pool:
        with pytest.raises(SettingsInvalid, match="Landlock v1"):
            await pool.run(Facts())


async def test_a_thread_too_reads_of_a_model_of_ones_own_only_the_file(tmp_path: Path) -> None:
    model, beside = tmp_path / "models" / "own.onnx", tmp_path / "models" / "private.txt"
    model.parent.mkdir()
    model.write_bytes(b"weights")
    beside.write_bytes(b"not yours")
    side_car_of(model).write_text("{}")
    paths = model, side_car_of(model), beside
    async with open_pool(tmp_path / "scratch", readable=readable_of(model)) as pool:
        outcomes = [await pool.run(InAThread(path)) for path in paths]
    assert outcomes == ["allowed", "allowed", "PermissionError"]


def test_a_number_of_the_settings_crosses_as_a_number() -> None:
    sent = messages.encoded(Limits(memory_bytes=ByteCount.parse("20G")))
    assert messages.decoder(Limits).decode(sent) == Limits(memory_bytes=20 << 30)
