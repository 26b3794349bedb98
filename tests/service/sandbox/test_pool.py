import asyncio
import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
import uvloop

from foremask.cli.exits import Exit, exit_code
from foremask.errors import CorruptVideo, Internal, SettingsInvalid, TimedOut, UrlRefused
from foremask.machine.process_setup import NUMERICS, ONE_THREAD
from foremask.service.sandbox import messages, system_calls
from foremask.service.sandbox.confine import Level, check_level
from foremask.service.sandbox.messages import ChildProgress
from foremask.service.sandbox.pool import (
    MAX_FILES,
    MAX_MESSAGES_PER_S,
    MAX_THREADS,
    WATCH_S,
    ChildDied,
    JobDirectory,
    MediaPool,
    start,
)
from foremask.settings import Sandbox
from foremask.weights.catalogue import files_of, side_car_of
from tests.service.sandbox.misdeeds import (
    CallAll,
    Copy,
    Do,
    Facts,
    Garble,
    InAThread,
    Lie,
    Litter,
    Look,
    Seen,
    TryAll,
    pool_of_misdeeds,
)
from tests.support.patience import running, wait_until
from tests.support.programs import children, fresh, is_gone
from tests.support.refusals import refused

pytestmark = pytest.mark.slow


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncGenerator[MediaPool]:
    async with pool_of_misdeeds(tmp_path / "scratch") as opened:
        yield opened


async def pid(pool: MediaPool, owner: str = "") -> int:
    return (await pool.run(Facts(), owner=owner)).pid


async def calls(pool: MediaPool, owner: str) -> int:
    return (await pool.run(Facts(), owner=owner)).calls


def left_in(scratch: Path) -> list[Path]:
    return list(scratch.glob("slots-*/*/out/*"))


async def test_paths_are_the_callers_on_both_sides(pool: MediaPool, tmp_path: Path) -> None:
    source, target = tmp_path / "a clip.mp4", tmp_path / "job" / "mask.mp4"
    source.write_bytes(b"frames")
    reported: list[ChildProgress] = []

    async def note(progress: ChildProgress) -> None:
        reported.append(progress)

    theirs, its, size = await pool.run(Copy(source, target), on_progress=note)
    assert (theirs.name, its.name, size) == ("0-a clip.mp4", "mask.mp4", 6)
    assert theirs.parent.parent == its.parent.parent != tmp_path
    assert target.read_bytes() == b"frames"
    assert list(target.parent.iterdir()) == [target]  # what was not declared is not collected
    assert reported == [ChildProgress(1)]
    assert (await pool.run(Facts())).files == []  # the next job does not see the clip


async def test_what_the_reader_raises_comes_out_of_run(pool: MediaPool) -> None:
    async def read_at(offset: int, size: int) -> bytes:
        raise UrlRefused(f"broke off at {offset} of {size}", reason="url_unreachable")

    before = await pid(pool)
    with refused("url_unreachable"):
        await pool.run(Do("read"), read_at=read_at)
    assert is_gone(before)


async def test_a_child_is_warm_until_an_error_which_crosses_whole(pool: MediaPool) -> None:
    first = await pid(pool)
    assert await pid(pool) == first
    with pytest.raises(CorruptVideo) as caught:
        await pool.run(Do("refuse"))
    error = caught.value
    assert (error.details, error.param) == ("The video breaks at frame 7.", "video")
    assert (error.limit, error.actual) == (9, 7)
    assert await pid(pool) != first
    assert is_gone(first)


async def test_the_next_child_is_ready_before_it_is_needed(tmp_path: Path) -> None:
    pool = pool_of_misdeeds(tmp_path / "scratch", spares=True, prepare=Do("prepare"))
    async with pool:
        assert [await calls(pool, "a"), await calls(pool, "a")] == [2, 3]
        first = await pid(pool, "a")
        assert await calls(pool, "b") == 2
        assert is_gone(first)
        with pytest.raises(CorruptVideo):
            await pool.run(Do("refuse"), owner="b")
        assert await calls(pool, "b") == 2
        second = await pid(pool, "b")
    assert is_gone(second)


async def test_a_spare_that_dies_is_not_missed(tmp_path: Path) -> None:
    pool = pool_of_misdeeds(tmp_path / "scratch", spares=True, prepare=Do("die"))
    async with pool:
        assert [await calls(pool, "a"), await calls(pool, "b")] == [1, 1]


async def test_a_child_is_replaced_after_its_share_of_jobs(tmp_path: Path) -> None:
    async with pool_of_misdeeds(tmp_path, jobs_per_child=2) as pool:
        pids = [await pid(pool) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


async def test_a_death_is_told_with_the_last_words(pool: MediaPool) -> None:
    with pytest.raises(ChildDied) as caught:
        await pool.run(Do("die"))
    assert caught.value.__notes__ == ["signal 6\nabout to die"]
    assert await pid(pool) > 0


async def test_a_child_that_was_killed_between_jobs_is_replaced(pool: MediaPool) -> None:
    victim = await pid(pool)
    os.kill(victim, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: is_gone(victim))
    await asyncio.sleep(0.2)
    assert await pid(pool) != victim


async def test_a_stall_kills_and_frames_that_advance_last_to_the_time_limit(tmp_path: Path) -> None:
    async with pool_of_misdeeds(tmp_path, stall_s=2.5) as pool:
        for deed, limit in (("hang", 2.5), ("dribble", 4.0)):
            victim = await pid(pool)
            with pytest.raises(TimedOut) as caught:
                await pool.run(Do(deed), wall_clock_s=4.0)
            assert caught.value.limit == limit
            assert is_gone(victim)


async def test_processor_time_has_an_end_which_waiting_does_not_use_up(tmp_path: Path) -> None:
    async with pool_of_misdeeds(tmp_path) as pool:
        with pytest.raises(TimedOut) as caught:
            await pool.run(Do("dribble"), processor_s=1.0, wall_clock_s=4.0)
        assert caught.value.limit == 4.0
        with pytest.raises(TimedOut) as caught:
            await pool.run(Do("compute"), processor_s=1.0)
        assert caught.value.limit == 1.0
        assert "1 s of processor time" in caught.value.details
        await pool.run(Facts(), processor_s=1.0)


async def test_cancelling_kills_at_once(pool: MediaPool) -> None:
    victim = await pid(pool)
    async with running(pool.run(Do("hang"))):
        await asyncio.sleep(0.2)
    assert is_gone(victim)


@pytest.mark.parametrize("turns", range(1, 12))
async def test_a_start_that_is_cancelled_says_so_though_its_child_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    setup = messages.Setup(False, 1 << 30, 1 << 30, "", 0, (), (), None)
    starting = asyncio.create_task(start(setup, JobDirectory(tmp_path)))
    before = children(os.getpid())
    for _ in range(turns):
        await asyncio.sleep(0)
    for child in children(os.getpid()) - before:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222  # the loop learns later
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


@pytest.mark.parametrize("deed", ["grow slowly", "grow"])
async def test_memory_has_an_end(tmp_path: Path, deed: str) -> None:
    async with pool_of_misdeeds(tmp_path, memory_bytes=256 << 20) as pool:
        with pytest.raises(Internal) as caught:
            await pool.run(Do(deed))
    assert caught.value.limit == 256 << 20
    assert "0.2 GiB" in caught.value.details


async def test_limits_hold_after_this_process_was_short_of_file_descriptors(tmp_path: Path) -> None:
    async with pool_of_misdeeds(tmp_path, memory_bytes=256 << 20) as pool:
        await pid(pool)  # the child is there
        most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        growing = asyncio.create_task(pool.run(Do("grow slowly")))
        await asyncio.sleep(WATCH_S / 2)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
        try:
            await asyncio.sleep(2 * WATCH_S)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        with pytest.raises(Internal) as caught:
            await growing
    assert caught.value.limit == 256 << 20


@pytest.mark.parametrize(("files", "depth"), [(50_000, 0), (0, 100)])
async def test_files_left_by_a_child_do_not_stall(tmp_path: Path, files: int, depth: int) -> None:
    longest_s = 0.0  # of the loop's thread at work without a pause

    async def tick() -> None:
        nonlocal longest_s
        while True:
            began_s = time.thread_time()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, time.thread_time() - began_s)

    async with running(tick()), pool_of_misdeeds(tmp_path, sandbox=Sandbox.OFF) as pool:
        with contextlib.suppress(Internal):
            await pool.run(Litter(files, depth))
        assert await pid(pool) > 0
        assert left_in(tmp_path) == []
    assert longest_s < 1.0


async def test_a_child_that_makes_too_many_files_is_killed(pool: MediaPool, tmp_path: Path) -> None:
    victim = await pid(pool)
    with pytest.raises(Internal) as caught:
        await pool.run(Litter(1_000_000, 0))
    assert caught.value.limit == MAX_FILES
    assert is_gone(victim)
    assert await pid(pool) != victim
    assert left_in(tmp_path / "scratch") == []


@pytest.mark.parametrize(
    ("deed", "limit", "reason"),
    [
        ("start threads", MAX_THREADS, "threads"),
        ("send", MAX_MESSAGES_PER_S, "messages a second"),
        ("send much", MAX_MESSAGES_PER_S, "messages a second"),
    ],
)
async def test_a_child_that_floods_is_ended_and_another_job_goes_on(
    tmp_path: Path, deed: str, limit: int, reason: str
) -> None:
    async with pool_of_misdeeds(tmp_path, slots=2, stall_s=60.0) as pool:
        other = asyncio.create_task(pool.run(Do("dribble")))
        began_s = time.monotonic()
        with pytest.raises(Internal, match=reason) as caught:
            await pool.run(Do(deed), owner="flooder")
        assert time.monotonic() - began_s < 20
        assert caught.value.limit == limit
        assert not other.done()
        await other


async def test_an_unforeseen_error_is_internal_with_its_trace_as_a_note(pool: MediaPool) -> None:
    with pytest.raises(Internal) as caught:
        await pool.run(Do("blunder"))
    assert "misdeeds" not in caught.value.details
    assert "a blunder of ours" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(Garble(bytes.fromhex("ffffffff")), id="a message of 4 GiB"),
        pytest.param(Garble(bytes.fromhex("00000003c1c1c1")), id="no msgpack"),
        pytest.param(Garble(bytes(4)), id="an empty message"),
        pytest.param(Garble(messages.framed(messages.Data(b"x"))), id="a message of the parent's"),
        pytest.param(Lie(), id="a result of another type"),
    ],
)
async def test_nonsense_ends_its_child(pool: MediaPool, nonsense: messages.Request[object]) -> None:
    with pytest.raises(ChildDied):
        await pool.run(nonsense)


async def test_slots_work_side_by_side(tmp_path: Path) -> None:
    async with pool_of_misdeeds(tmp_path, slots=2) as pool, running(pool.run(Do("hang"))):
        await asyncio.sleep(0.1)
        assert len({await pid(pool) for _ in range(3)}) == 1


def test_of_a_worker_that_is_killed_the_next_one_leaves_nothing(tmp_path: Path) -> None:
    async def open_and_close() -> None:
        async with pool_of_misdeeds(tmp_path):
            pass

    worker = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", WORKER, str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    with worker:
        assert worker.stderr is not None
        child = int(worker.stderr.readline())
        asyncio.run(open_and_close())  # while the other one is at work
        worker.kill()
    wait_until(lambda: is_gone(child))
    assert len(list(tmp_path.glob("slots-*/0/in"))) == 1
    asyncio.run(open_and_close())
    assert list(tmp_path.glob("slots-*")) == []


WORKER = """
import asyncio, sys
from pathlib import Path
from tests.service.sandbox import misdeeds
async def main():
    async with misdeeds.pool_of_misdeeds(Path(sys.argv[1])) as pool:
        print((await pool.run(misdeeds.Facts())).pid, file=sys.stderr, flush=True)
        await pool.run(misdeeds.Do("hang"))
asyncio.run(main())
"""


# Confinement

confined = partial(pool_of_misdeeds, sandbox=Sandbox.REQUIRE)


@pytest.mark.parametrize("landlock", [1, 2, 3, 5, None])
async def test_every_misdeed_is_denied(tmp_path: Path, landlock: int | None) -> None:
    (tmp_path / "in.mp4").write_bytes(b"the clip")
    outside = tmp_path / "private" / "outside"
    outside.parent.mkdir()
    outside.write_bytes(b"not yours")
    async with confined(tmp_path / "scratch", landlock_at_most=landlock) as pool:
        request = TryAll(tmp_path / "in.mp4", tmp_path / "job" / "out.mp4", outside)
        outcomes = await pool.run(request)
    assert len(outcomes) >= 80
    assert {name: how for name, how in outcomes.items() if how != "denied"} == {
        "resolve a name": "gaierror"
    }
    assert outside.read_bytes() == b"not yours"
    assert (tmp_path / "in.mp4").read_bytes() == b"the clip"
    assert sorted(os.listdir(outside.parent)) == ["outside"]  # noqa: PTH208
    assert (tmp_path / "job" / "out.mp4").read_bytes() == b"mine"


async def test_of_paths_outside_a_child_learns_what_the_threat_model_says(tmp_path: Path) -> None:
    outside, link = tmp_path / "private" / "outside", tmp_path / "private" / "link"
    outside.parent.mkdir()
    outside.write_bytes(b"not yours")
    link.symlink_to(outside)
    async with confined(tmp_path / "scratch") as pool:
        assert await pool.run(Look(outside, link)) == Seen(
            size=9, owner=os.getuid(), is_readable=True, leads_to=outside, sees_parent=True
        )


async def test_a_call_that_is_not_listed_does_not_exist(tmp_path: Path) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    names = [*chain(*system_calls.ALLOWED.values()), *system_calls.allowed_with(0)]
    numbers = {library.seccomp_syscall_resolve_name(name.encode()) for name in names}
    async with confined(tmp_path) as pool:
        assert await pool.run(CallAll(tuple(numbers))) == []


@pytest.mark.parametrize("kernels", ["", "OPENBLAS_CORETYPE=Haswell"])
async def test_of_our_environment_only_what_numerics_depend_on_reaches_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: str
) -> None:
    for name in NUMERICS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FOREMASK_DATABASE_URL", "postgresql://user:secret@host/name")
    if kernels:
        monkeypatch.setenv(*kernels.split("="))
    async with confined(tmp_path) as pool:
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
    async with confined(tmp_path, landlock_at_most=0) as pool:
        with pytest.raises(SettingsInvalid, match="Landlock v1"):
            await pool.run(Facts())


async def test_a_thread_too_reads_of_a_model_of_ones_own_only_the_file(tmp_path: Path) -> None:
    model, beside = tmp_path / "models" / "own.onnx", tmp_path / "models" / "private.txt"
    model.parent.mkdir()
    model.write_bytes(b"weights")
    beside.write_bytes(b"not yours")
    side_car_of(model).write_text("{}")
    paths = model, side_car_of(model), beside
    async with confined(tmp_path / "scratch", readable=files_of(model)) as pool:
        outcomes = [await pool.run(InAThread(path)) for path in paths]
    assert outcomes == ["allowed", "allowed", "denied"]
