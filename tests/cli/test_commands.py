import io
import json
import os
import pickle
import re
import signal
import socket
import tempfile
import time
import tomllib
from fractions import Fraction
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from foremask.cli.exits import Exit, exit_code, show_error
from foremask.cli.progress_bar import Unit, progress_bar
from foremask.cli.service_checks import NEWEST_MINOR
from foremask.errors import (
    ERROR_TABLE,
    REASONS,
    Busy,
    ClipRefused,
    Denied,
    Ended,
    Failed,
    ForemaskError,
)
from foremask.machine.hardware import nvidia_cards
from foremask.service.run.bundled_postgres import bundled_binaries, server_version
from foremask.vision.network.compiled_networks import COMPILED
from foremask.weights import catalogue
from tests.support import networks, synth
from tests.support.http_server import free_port
from tests.support.programs import Run, fresh

WITHOUT_THE_EXTRA = """import json, sys
sys.modules |= dict.fromkeys(json.loads(sys.argv[2]))  # None: cannot be found
from foremask.cli.commands import main
print([int(main(words)) for words in json.loads(sys.argv[1])])
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return synth.write(tmp_path / "clip.mp4", synth.Spec(sound=(synth.Tone(),)))


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMASK_DATA_DIR", str(tmp_path / "data"))


def doctor(run: Run) -> dict[str, dict[str, str]]:
    return {each["name"]: each for each in json.loads(run("doctor", "--json", code=None).out)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["", "live", "mask", "models", "serve", "worker", "token", "jobs", "migrate"]
)
def test_help_loads_nothing_heavy(command: str) -> None:
    heavy = {"numpy", "av", "cv2", "openvino", "psycopg", "structlog", "httpx2", "markdown_it"}
    ran = fresh(
        "import sys; from foremask.cli.commands import main; main([*sys.argv[1:], '--help'])\n"
        f"print({heavy} & {{*sys.modules}} or 'set()')",
        *filter(None, [command]),
    )
    assert ran.stdout.endswith("set()\n")


def test_help_begins_with_what_most_people_want(run: Run) -> None:
    lines = run().out.splitlines()
    named = [line.split()[1] for line in lines if line.startswith("│ ") and line[2] != " "]
    assert named[:2] == ["mask", "cutout"]
    assert named[-11:-8] == ["cancel", "status", "submit"]  # jobs on another machine, by themselves


def test_no_command_that_cannot_mend_a_file_is_named_as_its_remedy(run: Run, clip: Path) -> None:
    """FFmpeg copies many files that do not play, but none without an index."""
    whole = clip.read_bytes()
    clip.write_bytes(whole[: whole.index(b"moov") - 4])
    told = run.refused("probe", clip, code=Exit.CLIP_REFUSED)
    assert "no moov box" in told
    assert "ffmpeg cannot mend it" in told
    assert "ffmpeg -i" not in told


@pytest.mark.slow
def test_without_the_server_extra_files_are_masked_and_the_service_says_what_is_missing(
    clip: Path,
) -> None:
    networks.redness(clip.parent, bias=-5.0)
    words = [["mask", str(clip)], ["verify", str(clip), str(clip.with_suffix(".mask.mp4"))]]
    words += [["probe", str(clip)], ["completion", "bash"], ["doctor"], ["submit", str(clip)]]
    words += [["serve"], ["token", "list"], ["worker", "--help"]]
    environ = {**os.environ, "FOREMASK_MODEL_FILE": str(clip.parent / "redness.onnx")}
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["server"]
    hidden = [re.split(r"[\[<>=]", each)[0].replace("-", "_") for each in extra]
    ran = fresh(WITHOUT_THE_EXTRA, json.dumps(words), json.dumps(hidden), env=environ)
    assert ran.stdout.endswith("[0, 0, 0, 0, 0, 2, 2, 2, 2]\n"), ran
    assert "pip install 'foremask[server]' adds it" in ran.stdout
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert "set FOREMASK_SERVER" in errors[0]
    assert errors[1:] == [
        f"error: `foremask {command}` needs the service, which is not installed."
        " Install it: pip install 'foremask[server]' [extra_missing]"
        for command in ("serve", "token", "worker")
    ]


def test_a_service_that_cannot_be_says_so_before_it_starts(
    run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for command in ("serve", "api"):
            assert f"port {port}" in run.refused(command, "--port", port)
    monkeypatch.setenv("FOREMASK_DATA_DIR", str(clip / "data"))
    assert "set FOREMASK_DATA_DIR" in run.refused("serve", "--port", port)
    assert "set FOREMASK_DATA_DIR" in run.refused("jobs")
    monkeypatch.setenv("FOREMASK_DATABASE_URL", "postgresql://127.0.0.1:9/none")
    for line in (("api", "--port", free_port()), ("worker", "--queues", "webhooks")):
        assert "set FOREMASK_DATA_DIR" in run.refused(*line)


def test_probe_says_what_the_service_would_say(run: Run, tmp_path: Path) -> None:
    long = synth.write(
        tmp_path / "long.mp4",
        synth.Spec(pts=tuple(range(62)), time_base=Fraction(1), last_duration=1),
    )
    assert re.search(r"the service would refuse it.*\[duration_too_long\]", run("probe", long).out)
    matroska = synth.write(tmp_path / "short.mkv", synth.Spec())
    said = run("probe", matroska).out
    assert "a service on this machine would accept it\none that others reach would refuse" in said
    assert "[container_unsupported]" in said
    asked = json.loads(run("probe", matroska, "--json").out)
    assert (asked["local_service"], asked["service"]["code"]) == ("accepted", 415)


def test_every_error_has_an_exit_code_of_its_kind() -> None:
    known = REASONS.values()
    internal = {each.name for each in known if exit_code(each.error("x")) is Exit.INTERNAL}
    ours = Denied | Busy | Failed | Ended
    assert internal == {each.name for each in known if issubclass(each.kind, ours)}


def test_an_error_without_a_reason_is_internal_and_a_copy_is_whole() -> None:
    """A library's caller may raise one to cancel, and get one out of another process."""
    assert ForemaskError("enough").reason == "internal"
    error = ClipRefused("no frame", reason="no_frames", limit=2)
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    assert (type(copied), copied.facts()) == (ClipRefused, error.facts())


def test_no_two_errors_have_one_reason() -> None:
    names = [each.name for each in ERROR_TABLE]
    assert len(set(names)) == len(names)


def test_every_error_has_a_remedy_and_it_is_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    without = [each.name for each in REASONS.values() if not each.error("x").cli_remedy]
    assert without == ["usage"]
    assert all(each.means and each.remedy for each in ERROR_TABLE)
    show_error(ClipRefused("The codec is cinepak", reason="codec_unsupported"))
    assert capsys.readouterr().err == (
        "error: The codec is cinepak. Encode it anew: "
        "`ffmpeg -i clip.mov -c:v libx264 -crf 16 clip.mp4` [codec_unsupported]\n"
    )


@pytest.mark.weights
def test_a_pull_compiles_the_network_and_says_so_after(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One network of each form is compiled; the others were, when the weights were pulled."""
    pulled = catalogue.model_path(Path(os.environ["FOREMASK_MODEL_DIR"]))
    weights = tmp_path / catalogue.ISNET.file_name
    weights.symlink_to(pulled)
    monkeypatch.setenv("FOREMASK_MODEL_DIR", str(tmp_path))
    compiled = doctor(run)["compiled"]
    assert compiled["verdict"] == "note"
    missing = "1024 px, 768 px, 896 px, 512 px, prompted 512 px"
    assert f": {missing}, so each" in compiled["found"]
    networks.copy_compiled(pulled, weights, but=dict(COMPILED).items())
    assert doctor(run)["compiled"]["verdict"] == "note"
    assert run("models", "pull").out == f"{weights}\n"
    compiled = doctor(run)["compiled"]
    assert compiled["verdict"] == "ok"
    assert compiled["found"].endswith(f" MB in {tmp_path / 'compiled'}")


def test_doctor_says_that_the_missing_model_comes_by_itself(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMASK_MODEL_DIR", str(tmp_path))
    model = doctor(run)["model"]
    assert model["verdict"] == "note"
    remedy = r"first command .* downloads it .*`foremask models pull isnet`"
    assert re.search(remedy, model["found"])
    out = run("doctor", code=Exit.OK).out
    for name in ("versions", "cpu", "memory", "devices    cpu,", "database", "data", "sandbox"):
        assert re.search(rf"^\w+ +{name} ", out, re.MULTILINE), name


def test_doctor_says_that_a_network_of_ones_own_has_no_isnet_beside_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMASK_MODEL_FILE", str(networks.redness(tmp_path)))
    corrections = doctor(run)["corrections"]
    assert corrections["verdict"] == "note"
    assert f"{catalogue.ISNET.file_name} is not in {tmp_path}" in corrections["found"]


@pytest.mark.parametrize(
    ("device", "sandbox", "bad"),
    [
        ("cuda", "best-effort", ["runtime", "device"]),
        ("cuda", "off", ["runtime"]),
        ("cpu", "best-effort", []),
    ],
)
def test_doctor_says_why_workers_cannot_have_their_device(
    run: Run, monkeypatch: pytest.MonkeyPatch, device: str, sandbox: str, bad: list[str]
) -> None:
    if nvidia_cards():
        pytest.skip("this machine has a card")
    monkeypatch.setenv("FOREMASK_DEVICE", device)
    monkeypatch.setenv("FOREMASK_SANDBOX", sandbox)
    ours = [each for name, each in doctor(run).items() if name in ("runtime", "device")]
    assert [each["name"] for each in ours if each["verdict"] == "bad"] == bad
    for each in ours:
        assert each["verdict"] == "ok" or re.search("FOREMASK_|Here are: cpu", each["found"])


def test_doctor_says_which_postgresql_and_what_it_lacks(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries = bundled_binaries()
    major, minor = server_version(binaries)
    for named in ("", str(binaries)):
        monkeypatch.setenv("FOREMASK_POSTGRES_BIN", named)
        found = doctor(run)["database"]["found"]
        assert f"PostgreSQL {major}.{minor} (" in found
        lacks = minor < NEWEST_MINOR[major]
        assert (f"lacks the fixes of {major}.{NEWEST_MINOR[major]}" in found) == lacks
    monkeypatch.setenv("FOREMASK_POSTGRES_BIN", "/no-such-place")
    assert "there is no PostgreSQL in /no-such-place" in doctor(run)["database"]["found"]
    monkeypatch.setenv("FOREMASK_DATABASE_URL", "postgresql://someone:hush@127.0.0.1:1/none")
    unanswered = doctor(run)["database"]["found"]
    assert "does not answer" in unanswered
    assert "hush" not in unanswered


def test_doctor_warns_of_links_that_lead_nowhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREMASK_HOST", "0.0.0.0")  # noqa: S104  # nothing listens
    assert doctor(run)["address"]["verdict"] == "note"
    monkeypatch.setenv("FOREMASK_PUBLIC_URL", "https://masks.example.org")
    assert doctor(run)["address"]["verdict"] == "ok"


@pytest.mark.postgres
def test_a_token_is_shown_once_listed_and_revoked(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMASK_DATABASE_URL", database_url)
    own = "{}.{}".format(*server_version(bundled_binaries()))
    assert f"your own PostgreSQL {own} answers" in doctor(run)["database"]["found"]
    assert run("token", "list").err == "There is no token yet: foremask token create makes one.\n"
    made = run("token", "create", "studio", "--rate-per-minute", "30", "--days", "2")
    token = made.out.strip()
    assert re.fullmatch(r"fm_[\w-]{43}", token)
    assert made.err == f"The page with this token: http://127.0.0.1:8000/#token={token}\n"
    listed = run("token", "list").out
    assert token not in listed
    assert listed.startswith(token[:9])
    assert "30 a minute" in listed
    run("token", "revoke", token[:9])
    assert json.loads(run("token", "list", "--json").out)[0]["revoked_at"] is not None
    run.refused("token", "revoke", "fm_no_one")
    run.refused("webhook", "redeliver", "no-such-job")
    assert run("migrate").out == "nothing to do\n"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("insert into schema_scripts (name) values ('foremask/1000')")
        for line in ("token list", "jobs", "migrate", "webhook redeliver x"):
            assert "of a newer foremask" in run.refused(*line.split(), code=1), line
        connection.execute("delete from schema_scripts where name = 'foremask/1000'")


@pytest.mark.parametrize(
    ("unit", "shown", "lines"),
    [
        (
            "pictures",
            [(frame * 0.5, frame, 90, None) for frame in range(21)],
            [
                "it: 10/90 pictures, 2.0 pictures/s, 0:40 left",
                "it: 20/90 pictures, 2.0 pictures/s, 0:35 left",
            ],
        ),
        # the rate is of the last 20 s, and none is guessed from nothing
        (
            "pictures",
            [(30.0, 0, 9000, None), (40.0, 20, 9000, None), (55.0, 50, 9000, None)],
            [
                "it: 0/9000 pictures",
                "it: 20/9000 pictures",
                "it: 50/9000 pictures, 2.0 pictures/s, 1:14:35 left",
            ],
        ),
        # of a mask, only the masking's own estimate is shown
        (
            "frames",
            [(6.0, 6, None, None), (12.0, 12, 80, None), (18.0, 18, 80, 42.0)],
            ["it: 6 frames", "it: 12/80 frames", "it: 18/80 frames, 0:42 left"],
        ),
        # nothing is done yet, and the number of frames is known
        ("frames", [(6.0, 0, 80, None)], ["it: 0/80 frames"]),
    ],
)
def test_away_from_a_terminal_progress_is_plain_lines(
    monkeypatch: pytest.MonkeyPatch,
    unit: Unit,
    shown: list[tuple[float, int, int | None, float | None]],
    lines: list[str],
) -> None:
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    stream = io.StringIO()
    with progress_bar("it", unit, Console(file=stream)) as show:
        for now_s, done, total, left_s in shown:  # noqa: B007  # read by the clock
            show(done, total, left_s=left_s)
    assert stream.getvalue().splitlines() == lines


def test_an_estimated_number_of_frames_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    with progress_bar("it", "frames", Console(file=stream, force_terminal=True, width=80)) as show:
        show(0, 80, is_estimate=True)
    assert "0 of about 80 frames" in stream.getvalue()


def test_on_a_terminal_progress_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    with progress_bar("model", "MB", Console(file=stream, force_terminal=True, width=80)) as show:
        show(0, 2_000_000)
        show(3_000_000, 2_000_000)
    assert "3.0/3.0 MB" in stream.getvalue()


def test_an_unforeseen_error_is_one_line(
    run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("foremask.media.probe.probe", broken)
    error = run.refused("probe", clip, code=Exit.INTERNAL)
    assert error.startswith("error: RuntimeError: out of luck. --debug shows where")
    assert "Traceback" in run("--debug", "probe", clip, code=Exit.INTERNAL).err


def test_exit_codes_are_the_documented_ones() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert {int(row) for row in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == set(Exit)


def test_a_signal_that_an_import_swallows_still_ends_with_143(
    run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library in C turns an exception during its import into an ImportError."""

    def load(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except SystemExit:
            raise ImportError("initialization failed") from None

    monkeypatch.setattr("foremask.media.verify.verify", load)
    assert run("verify", clip, clip, code=Exit.TERMINATED).err == ""


def test_a_file_that_may_not_be_read_is_named(run: Run) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        clip = synth.write(Path(folder) / "clip.mp4")
        clip.chmod(0)
        os.seteuid(65534 if os.geteuid() == 0 else os.geteuid())
        try:
            for command in ("probe", "mask"):
                assert "cannot be read: Permission denied. [usage]" in run.refused(command, clip)
        finally:
            os.seteuid(os.getuid())


THREAD_WITHOUT_END = """import sys, threading
import foremask.cli.commands as commands
threading.Thread(target=threading.Event().wait).start()
commands.main = lambda: print("half a line", end="") or 130
"""
CTRL_C_AT_IMPORT = """import sys, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupting:
    def find_spec(self, name, *more):
        if name == "foremask.cli.commands": signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "printed"),
    [(THREAD_WITHOUT_END, ("half a line", "")), (CTRL_C_AT_IMPORT, ("", "interrupted\n"))],
)
def test_an_interrupted_command_ends_at_once_with_its_code(
    before: str, printed: tuple[str, str]
) -> None:
    """Threads of decoders once blocked the interpreter's shutdown on a busy machine."""
    program = f"{before}from foremask.__main__ import main\nsys.exit(main())"
    ran = fresh(program, "mask", check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, *printed)
