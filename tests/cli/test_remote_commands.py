import gzip
import json
import re
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from foremask.cli.exits import Exit
from tests.service.api.conftest import Running, clip_origin, drawn, service
from tests.service.api.worker import working
from tests.support import synth
from tests.support.http_server import Handler, free_port, serving
from tests.support.programs import Run

__all__ = ["clip_origin", "drawn", "service"]  # fixtures


@pytest.fixture(autouse=True)
def here(tmp_path: Path, service: Running, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREMASK_SERVER", f"{service.url}/")
    monkeypatch.setenv("FOREMASK_TOKEN", f"{service.token}\n")
    monkeypatch.setenv("FOREMASK_DATABASE_URL", service.database_url)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_file_is_uploaded_and_its_mask_comes_back(
    service: Running, drawn: Path, here: Path, tmp_path: Path, run: Run
) -> None:
    clip = drawn / "good.mp4"
    with working(service, tmp_path):
        out, err = run("submit", clip, "-o", "mask.webm")
        job = err.splitlines()[0].removeprefix("job ")
        assert out.endswith("mask.webm\n")  # after what the worker logs
        assert service.token not in err
        assert [path.name for path in here.iterdir()] == ["mask.webm"]
        run("verify", clip, "mask.webm")
        run("status", job, "-o", "again.webm")
        mask = (here / "mask.webm").read_bytes()
        assert (here / "again.webm").read_bytes() == mask
        lines = [line.partition("  ")[2] for line in run("job", job, "--follow").out.splitlines()]
        assert lines[0] == "created"
        assert lines[1] == "ingest 0, attempt 1: begun by test"
        assert any(line.startswith("segment 0, attempt 1: done after ") for line in lines)
        assert lines[-1] == f"{job}  completed  10 frames, webm_vp9"
        (stored,) = (service.settings.data_dir / "objects" / "results" / job).rglob("*.webm")
        stored.write_bytes(bytes([mask[0] ^ 1]) + mask[1:])
        damaged = run("status", job, "-o", "damaged.webm", code=Exit.OUTPUT_FAILED)
        assert "the mask came damaged" in damaged.err
        assert not (here / "damaged.webm").exists()
    words = ["submit", clip, "-o", "mask.webm", "--server", f"http://127.0.0.1:{free_port()}"]
    there = run(*words, code=Exit.OUTPUT_FAILED)  # and not that nobody answers
    assert "exists already" in there.err
    assert (here / "mask.webm").read_bytes() == mask


def test_a_part_of_a_file_is_submitted(
    service: Running, drawn: Path, here: Path, tmp_path: Path, run: Run
) -> None:
    wrong = run("submit", drawn / "good.mp4", "--start", "0.2", "--end", "0.1", code=Exit.USAGE)
    assert "--end 0.1 is not after --start 0.2" in wrong.err
    with working(service, tmp_path):
        run("submit", drawn / "good.mp4", "-o", "mask.mp4", "--start", "0.08", "--end", "0:00.2")
    assert len(synth.decode_grey(here / "mask.mp4")) == 3  # of 25 a second


def test_a_network_that_the_server_has_not_is_refused_by_it(
    service: Running, clip_origin: str, here: Path, run: Run
) -> None:
    url = f"{clip_origin}/good.mp4"
    refused = run.refused("submit", url, "--network", "u2net")
    assert "This service has no network 'u2net' for jobs; it has: isnet." in refused
    run("cancel", run("submit", url, "--network", service.settings.network).out.strip())
    assert list(here.iterdir()) == []


def test_a_job_is_read_and_cancelled(clip_origin: str, here: Path, run: Run) -> None:
    job = run("submit", f"{clip_origin}/good.mp4").out.strip()
    assert run("status", job).out.startswith("IN_PROGRESS: ")
    assert run("cancel", job).out == f"{job} is cancelled\n"
    status = run("status", job, "--json", code=Exit.INTERNAL).out
    assert json.loads(status)["error"]["reason"] == "cancelled"
    waited = run("status", job, "-o", "mask.mp4", code=Exit.INTERNAL).err
    assert re.fullmatch(r"error: .* \[cancelled\]", waited.splitlines()[-1])
    assert list(here.iterdir()) == []
    assert "[cancelled]" in run("job", job, "--follow", code=Exit.INTERNAL).out  # it has no mask
    assert f"  {job}  cancelled  " in run("jobs", "--last", "1").out
    run("job", "no-such-job", code=Exit.USAGE)
    unknown = run("status", "unknown", "--json", code=Exit.USAGE).out
    assert json.loads(unknown)["error"]["reason"] == "request_unknown"


def test_of_a_job_that_cannot_be_read_nobody_says_that_it_had_ended(
    service: Running, clip_origin: str, run: Run
) -> None:
    job = run("submit", f"{clip_origin}/good.mp4").out.strip()
    service.sql('update jobs set spec = spec || \'{"quality": "of old"}\' where id = %s', job)
    answer = run("cancel", job, code=Exit.INTERNAL).out
    assert answer.startswith("not cancelled: UNKNOWN: The record of this job")
    service.sql(
        'update jobs set spec = spec || \'{"quality": "fast"}\' where id = %s', job
    )  # lists log it otherwise


def test_an_answer_that_is_lost_makes_no_second_job(
    service: Running, clip_origin: str, run: Run
) -> None:
    before = service.sql("select id from jobs")
    with losing_the_first_answer(service) as url:
        run("submit", f"{clip_origin}/good.mp4", "--server", url)
    assert len(service.sql("select id from jobs")) == len(before) + 1


@contextmanager
def losing_the_first_answer(service: Running) -> Generator[str]:
    """A proxy that drops the first answer of the service."""
    lost: list[httpx.Response] = []

    class Proxy(Handler):
        def do_POST(self) -> None:  # noqa: N802
            content = self.rfile.read(int(self.headers["content-length"]))
            passed = ("x-api-key", "idempotency-key", "content-type")
            headers = {name: self.headers[name] for name in passed}
            answer = httpx.post(service.url + self.path, content=content, headers=headers)
            if lost:
                self.send_response(answer.status_code)
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)
            lost.append(answer)
            self.close_connection = True

    with serving(Proxy) as url:
        yield url
    assert len(lost) == 2


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(
    clip_origin: str, here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = run("submit", f"{clip_origin}/good.mp4").out.strip()
    sleep = time.sleep

    def interrupted(seconds: float) -> None:
        # A timer's signal may come before or after the command.
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        left = run("status", job, "-o", "my mask.mp4", code=Exit.INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, before)
    assert f"`foremask status {job} -o 'my mask.mp4'`" in left.err
    run("status", job)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["submit", "URL/long.mp4"], Exit.CLIP_REFUSED, "60 s"),
        (["submit", "URL/status/403"], Exit.URL_REFUSED, "[url_forbidden]"),
        (["submit", "URL/good.mp4", "--token", "not-a-good-one"], Exit.INTERNAL, "[token_invalid]"),
        (["submit", "URL/good.mp4", "--token", "not a good\ntoken"], Exit.USAGE, "printable ASCII"),
        (["status", "../healthz"], Exit.USAGE, "is no job's ID"),
        (["status", "unknown", "--server", "URL"], Exit.INTERNAL, "not as a foremask does"),
    ],
)
def test_what_cannot_be_is_one_line(
    clip_origin: str, run: Run, words: list[str], code: Exit, said: str
) -> None:
    error = run.refused(*(word.replace("URL", clip_origin) for word in words), code=code)
    assert said in error
    assert "not-a-good" not in error
    assert "not a good" not in error


def test_a_server_that_is_not_there(
    clip_origin: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMASK_SERVER", f"http://someone:hush@127.0.0.1:{free_port()}")
    error = run("submit", f"{clip_origin}/good.mp4", code=Exit.INTERNAL).err
    assert "http://127.0.0.1:" in error
    assert "Check FOREMASK_SERVER" in error
    assert "hush" not in error
    monkeypatch.delenv("FOREMASK_SERVER")
    assert "set FOREMASK_SERVER" in run.refused("cancel", "a-job")


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str]) -> Generator[str]:
    class Hostile(Handler):
        def do_GET(self) -> None:  # noqa: N802
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            for name, value in ({"content-length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # as the library calls it

    with serving(Hostile) as url:
        yield url


DONE = b'{"status": "COMPLETED", "result": {"video_url": %s}}'  # of a cut-out: no mask_url


def test_the_status_of_a_cut_out_has_its_link(here: Path, run: Run) -> None:
    with answering(200, DONE % b'"http://127.0.0.1/a.mov"', {}) as url:
        assert run("status", "job", "--server", url).out == "COMPLETED: http://127.0.0.1/a.mov\n"


@pytest.mark.linux
@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b"[]", {}),
        (200, b"{}", {}),
        (200, b'{"status": 7}', {}),
        (200, b'{"status": "COMPLETED", "result": []}', {}),
        (200, DONE % b"5", {}),
        (200, b'{"status": "ERROR", "error": "no"}', {}),
        (200, b'{"status": "IN_PROGRESS", "eta_s": "soon"}', {}),
        (200, b'{"status": "\xff"}', {}),
        (200, b'{"status": "ERROR", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}),
        (200, b'{"status": "' + b"x" * (5 << 20) + b'"}', {}),
        (200, gzip.compress(b" " * (64 << 20)), {"content-encoding": "gzip"}),
        (200, DONE % b'"http://[::1"', {}),
        (200, DONE % b'"ftp://127.0.0.1/"', {}),
        (200, DONE % b'"\\u0000"', {}),
        (500, b'{"error": {"details": {}}}', {}),
        (302, b"", {"location": "http://127.0.0.1:1/"}),
    ],
)
def test_a_hostile_server_is_named_and_nothing_else_happens(
    here: Path, run: Run, status: int, body: bytes, headers: dict[str, str]
) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with answering(status, body, headers) as url:
        has_ended = b'"video_url": "' in body  # else it would wait for the end
        ended = ["-o", "mask.mp4"] if has_ended else []
        for words in (["status", "job", *ended], ["submit", "http://127.0.0.1/a.mp4"]):
            error = run(*words, "--server", url, code=Exit.INTERNAL).err
            assert "[server_unreachable]" in error.splitlines()[-1]
            assert "report it" not in error
    assert list(here.iterdir()) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 << 10


def test_a_server_writes_no_escapes_to_the_terminal(run: Run) -> None:
    said = json.dumps({"error": {"details": "\x1b[2J\x9b1m\u202e", "reason": "\x07"}}).encode()
    with answering(403, said, {}) as url:
        refused = run("status", "job", "--server", url, code=Exit.INTERNAL)
    assert refused.err == "error: \\x1b[2J\\x9b1m\\u202e. [\\x07]\n"
    said = json.dumps({"status": "IN_PROGRESS", "stage": "\x1b[2J\x9b1m"}).encode()
    with answering(200, said, {}) as url:
        shown = run("status", "job", "--server", url).out
        printed = run("status", "job", "--json", "--server", url).out
    assert shown == "IN_PROGRESS: \\x1b[2J\\x9b1m, 0 %\n"
    assert printed.replace("\n", "").isprintable()
    assert json.loads(printed) == json.loads(said)
