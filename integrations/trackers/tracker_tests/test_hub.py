import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
from foremask_trackers.commands import main
from foremask_trackers.files import HUB_FILES, TRACKER_NAMES, TRACKERS, WEIGHTS, HubFiles
from foremask_trackers.hub import pull_files
from tests.support.disks import disk_of
from tests.support.http_server import free_port

from foremask.errors import ModelUnavailable
from foremask.weights import download
from tracker_tests.hub_server import Hub, hub_of

NUMBERS = bytes(range(256)) * 400
CONFIG = b'{"model_type": "sam2_video"}'
FILES = HubFiles(
    name="own",
    repository="someone/own",
    revision="0" * 40,
    size_bytes=len(NUMBERS),
    sha256=hashlib.sha256(NUMBERS).hexdigest(),
    others=("config.json", "vocab.txt"),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES_S", (0.01, 0.01))
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_user")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {WEIGHTS: NUMBERS, "config.json": CONFIG, "vocab.txt": b"red\ncar\n"}
    files["pytorch_model.bin"] = b"a pickle"
    with hub_of(FILES.repository, FILES.revision, files) as hub:
        use(hub.url, monkeypatch)
        yield hub


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads HF_ENDPOINT when it is imported."""
    was = huggingface_hub.constants.ENDPOINT
    template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template.replace(was, url)
    )


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_the_files_of_the_pinned_commit_come_with_progress_and_no_other_is_asked_for(
    tmp_path: Path, hub: Hub
) -> None:
    heard: list[tuple[int, int]] = []
    folder = pull_files(FILES, tmp_path, lambda *bytes_: heard.append(bytes_))
    assert folder == tmp_path / "own"
    assert names_in(tmp_path) == ["own"]
    assert names_in(folder) == ["config.json", WEIGHTS, "vocab.txt"]
    assert (folder / WEIGHTS).read_bytes() == NUMBERS
    assert heard[0] == (0, len(NUMBERS))
    assert heard[-1] == (len(NUMBERS), len(NUMBERS))
    asked = len(hub.asked)
    assert not any("pytorch" in each.path for each in hub.asked)
    assert pull_files(FILES, tmp_path) == folder
    assert len(hub.asked) == asked


def test_the_login_goes_to_the_hub_and_not_to_the_host_that_stores_the_weights(
    tmp_path: Path, hub: Hub
) -> None:
    pull_files(FILES, tmp_path)
    at_hub = {each.login for each in hub.asked if each.path.startswith(hub.root)}
    assert at_hub == {"Bearer hf_of_the_user"}
    assert [each.login for each in hub.of_weights()] == [None]


def test_weights_that_were_cut_off_go_on_where_they_ended(tmp_path: Path, hub: Hub) -> None:
    hub.cuts = [1000, 2000]
    folder = pull_files(FILES, tmp_path)
    assert (folder / WEIGHTS).read_bytes() == NUMBERS
    assert [each.range for each in hub.of_weights()] == [None, "bytes=1000-", "bytes=3000-"]


def test_the_next_pull_goes_on_where_a_stopped_one_ended(tmp_path: Path, hub: Hub) -> None:
    def stop(done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    hub.cuts = [1000]
    with pytest.raises(KeyboardInterrupt):
        pull_files(FILES, tmp_path, stop)
    assert not (tmp_path / "own").exists()
    folder = pull_files(FILES, tmp_path)
    assert (folder / WEIGHTS).read_bytes() == NUMBERS
    assert [each.range for each in hub.of_weights()] == [None, "bytes=1000-"]


def test_other_weights_under_the_name_are_refused_and_not_kept(tmp_path: Path, hub: Hub) -> None:
    hub.files[WEIGHTS] = NUMBERS[:-1] + b"?"
    with pytest.raises(ModelUnavailable, match=r"is not the weights of own .*SHA-256"):
        pull_files(FILES, tmp_path)
    assert not (tmp_path / "own").exists()
    hub.files[WEIGHTS] = NUMBERS
    assert (pull_files(FILES, tmp_path) / WEIGHTS).read_bytes() == NUMBERS


def test_a_page_of_a_proxy_in_place_of_the_configuration_is_refused(
    tmp_path: Path, hub: Hub
) -> None:
    hub.files["config.json"] = b"<html>Please log in to the guest network.</html>"
    with pytest.raises(ModelUnavailable, match=r"config\.json from .* is no JSON"):
        pull_files(FILES, tmp_path)
    hub.files["config.json"] = CONFIG
    assert (pull_files(FILES, tmp_path) / "config.json").read_bytes() == CONFIG


@pytest.mark.parametrize("status", [401, 403])
def test_a_repository_for_some_accounts_says_where_to_ask_and_how_to_log_in(
    tmp_path: Path, hub: Hub, status: int
) -> None:
    hub.refuses = status
    with pytest.raises(ModelUnavailable) as refused:
        pull_files(replace(FILES, is_gated=True), tmp_path)
    assert f"refuses it ({status}) without the login of an account" in refused.value.details
    assert (
        "ask at https://huggingface.co/someone/own, then `hf auth login`" in refused.value.details
    )
    with pytest.raises(ModelUnavailable, match=r"refuses it .* HF_TOKEN sets another"):
        pull_files(FILES, tmp_path)


def test_a_file_that_the_hub_does_not_have_is_named(tmp_path: Path, hub: Hub) -> None:
    del hub.files["vocab.txt"]
    with pytest.raises(ModelUnavailable, match=r"vocab\.txt of own .*\(404\).*--from FOLDER"):
        pull_files(FILES, tmp_path)
    hub.files["vocab.txt"] = b"red"
    del hub.files[WEIGHTS]
    with pytest.raises(ModelUnavailable, match=r"model\.safetensors of own .*\(404\)"):
        pull_files(FILES, tmp_path)


def test_a_hub_that_cannot_be_reached_is_named_with_the_ways_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    use(f"http://127.0.0.1:{port}", monkeypatch)
    with pytest.raises(ModelUnavailable, match=f"127.0.0.1:{port} cannot be reached.*HF_END"):
        pull_files(FILES, tmp_path)


@pytest.mark.linux
def test_a_full_disk_is_named_and_what_has_come_is_kept(tmp_path: Path, hub: Hub) -> None:
    with (
        disk_of(50_000),
        pytest.raises(ModelUnavailable, match=r"the disk is full at .*free 50 MB"),
    ):
        pull_files(FILES, tmp_path)
    assert (pull_files(FILES, tmp_path) / WEIGHTS).read_bytes() == NUMBERS
    assert hub.of_weights()[-1].range == "bytes=50000-"


def test_a_folder_from_another_machine_is_checked_and_copied(tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    brought.mkdir()
    (brought / "config.json").write_bytes(CONFIG)
    (brought / "pytorch_model.bin").write_bytes(b"a pickle")
    models = tmp_path / "models"
    with pytest.raises(ModelUnavailable, match=r"it has no vocab\.txt, model\.safetensors"):
        pull_files(FILES, models, brought=brought)
    (brought / "vocab.txt").write_bytes(b"red")
    (brought / WEIGHTS).write_bytes(NUMBERS[1:])
    with pytest.raises(ModelUnavailable, match="is not the weights of own"):
        pull_files(FILES, models, brought=brought)
    (brought / WEIGHTS).write_bytes(NUMBERS)
    folder = pull_files(FILES, models, brought=brought)
    assert names_in(folder) == ["config.json", WEIGHTS, "vocab.txt"]
    assert names_in(brought) == ["config.json", WEIGHTS, "pytorch_model.bin", "vocab.txt"]


def test_the_command_asks_the_hub_of_the_environment_and_says_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = TRACKERS["sam3"]
    monkeypatch.setenv("FOREMASK_MODEL_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["foremask-trackers", "pull", "sam3"])
    with hub_of(files.repository, files.revision, {}) as hub:
        hub.refuses = 403
        use(hub.url, monkeypatch)
        assert main() == 5
    said = capsys.readouterr().err
    assert "3440 MB come from https://huggingface.co/facebook/sam3 (SAM License)" in said
    assert "only for accounts that were let in" in said
    assert "refuses it (403)" in said
    assert [each.path for each in hub.asked] == [f"{hub.root}config.json"]


def test_the_command_lists_what_there_is_and_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edgetam").mkdir()
    (tmp_path / "edgetam" / "config.json").write_text("{}")
    (tmp_path / "edgetam" / WEIGHTS).write_bytes(b"")
    monkeypatch.setenv("FOREMASK_MODEL_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["foremask-trackers", "--json"])
    assert main() == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in listed] == [*TRACKER_NAMES, "grounding-dino-tiny"]
    assert [each["name"] for each in listed if each["is_here"]] == ["edgetam"]
    monkeypatch.setattr("sys.argv", ["foremask-trackers"])
    assert main() == 0
    assert "sam2.1-tiny          156 MB, not here, needs 1.6 GB" in capsys.readouterr().out


def test_a_tracker_is_pulled_from_a_folder_and_not_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOREMASK_MODEL_DIR", str(tmp_path / "models"))
    file = tmp_path / "sam3"
    file.write_bytes(b"")
    monkeypatch.setattr("sys.argv", ["foremask-trackers", "pull", "sam3", "--from", str(file)])
    assert main() == 2
    assert "is not a folder" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["foremask-trackers", "pull", "sam3", "--from", str(tmp_path)])
    assert main() == 5
    assert "is not the folder of sam3: it has no config.json" in capsys.readouterr().err


def test_each_tracker_is_pinned_to_a_commit_and_to_the_hash_of_its_weights() -> None:
    for files in HUB_FILES.values():
        assert len(bytes.fromhex(files.revision)) == 20
        assert len(bytes.fromhex(files.sha256)) == 32
    assert [name for name, files in HUB_FILES.items() if files.is_gated] == ["sam3"]
