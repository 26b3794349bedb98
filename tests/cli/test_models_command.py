import hashlib
import json
import re
from pathlib import Path

import pytest

import foremask
from foremask.cli.exits import Exit
from tests.support import networks, synth
from tests.support.file_server import CONTENT, PATH, file_server
from tests.support.programs import Run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models' directory of the command and of the library, with one network in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "foremask"
    monkeypatch.setenv("FOREMASK_MODEL_DIR", str(folder))
    folder.mkdir()
    networks.redness(folder, bias=-5.0)
    synth.write(tmp_path / "clip.mp4", synth.Spec(pts=(0, 1000)))
    return folder


def test_models_lists_what_there_is_and_what_is_here(run: Run, folder: Path) -> None:
    assert folder.is_dir()
    listed = {each["name"]: each for each in json.loads(run("models", "--json").out)}
    assert [name for name, each in listed.items() if each["is_here"]] == ["redness"]
    assert listed["u2net"]["size_bytes"] == 175_997_641
    assert listed["u2net"]["code"]["licence"] == "Apache-2.0"
    shown = run("models").out
    assert "isnet                 88 MB, not here, " in shown
    assert "redness                0 MB, here, memory not measured\n" in shown


def test_models_says_which_network_is_too_large_for_this_machine(run: Run, folder: Path) -> None:
    for name, memory_bytes in (("hats", 2**20), ("coats", 2**50)):
        (folder / f"{name}.onnx.json").write_text(json.dumps({"memory_bytes": memory_bytes}))
    listed = {each["name"]: each for each in json.loads(run("models", "--json").out)}
    assert listed["hats"]["runs_here"] is True
    assert listed["coats"]["runs_here"] is False
    assert listed["redness"]["runs_here"] is None
    assert "needs 1125899.9 GB of memory, more than this machine gives" in run("models").out


def test_pull_brings_a_network_by_its_name_or_from_a_file(run: Run, folder: Path) -> None:
    with file_server() as server:
        entry = {"size_bytes": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
        entry["urls"] = [f"{server.url}{PATH}"]
        for name in ("hats", "coats"):
            (folder / f"{name}.onnx.json").write_text(json.dumps(entry))
        pulled = run("models", "pull", "hats")
        assert pulled.out == f"{folder / 'hats.onnx'}\n"
        assert "the weights of hats are not in " in pulled.err
        assert "0 MB are downloaded, once" in pulled.err
        run("models", "pull", "coats", "--from", folder / "hats.onnx")
        assert len(server.asked) == 1
    assert (folder / "coats.onnx").read_bytes() == CONTENT
    assert "did you mean u2net?" in run.refused("models", "pull", "u2netq")
    wrong = run.refused("models", "pull", "u2netp", "--from", folder / "hats.onnx", code=5)
    assert "hats.onnx is not the weights of u2netp" in wrong


def test_doctor_names_a_network_for_jobs_that_is_missing(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMASK_NETWORK", "redness")
    monkeypatch.setenv("FOREMASK_NETWORKS", "redness")
    assert re.search(r"^ok +networks +for jobs: redness$", run("doctor", code=None).out, re.M)
    monkeypatch.setenv("FOREMASK_NETWORKS", "redness,u2netp")
    shown = run("doctor", code=Exit.INTERNAL).out
    assert re.search(
        r"^bad +networks .*u2netp is not in .*`foremask models pull u2netp`", shown, re.M
    )
    assert folder.is_dir()


def test_a_network_is_chosen_by_its_name(run: Run, folder: Path) -> None:
    clip = folder.parent / "clip.mp4"
    by_name = json.loads(run("mask", clip, "--network", "redness", "--json", "--no-cache").out)
    by_file = json.loads(
        run("mask", clip, "--model", folder / "redness.onnx", "--json", "--no-cache", "-f").out
    )
    assert by_name["coverage"] == by_file["coverage"] > 0
    report = foremask.mask_video(clip, folder / "mask.mp4", network="redness")
    assert report.coverage == by_file["coverage"]


def test_the_settings_choose_a_network_too(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMASK_NETWORK", "redness")
    run("mask", folder.parent / "clip.mp4", "--no-cache")
    found = {each["name"]: each for each in json.loads(run("doctor", "--json", code=None).out)}
    assert found["model"]["found"].startswith("redness, your own, ")
    assert "compiled" not in found


def test_a_network_and_a_model_at_once_are_refused(run: Run, folder: Path) -> None:
    clip = folder.parent / "clip.mp4"
    words = ["--network", "redness", "--model", folder / "redness.onnx"]
    assert "--network and --model cannot both be" in run.refused("mask", clip, *words)
    with pytest.raises(foremask.FieldInvalid, match="a network or a model"):
        foremask.mask_video(clip, network="redness", model=folder / "redness.onnx")
