import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from foremask.errors import ModelUnavailable
from foremask.weights import download
from foremask.weights.catalogue import Model, model_named, model_path, models, spec_of
from foremask.weights.pull import pull
from tests.support.file_server import CONTENT, PATH, FileServer, file_server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES_S", (0.01, 0.01))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def own(*servers: FileServer) -> Model:
    return Model(
        name="own",
        size_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        urls=tuple(f"{each.url}{PATH}" for each in servers),
    )


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_comes_with_its_progress_and_nothing_else_is_left(
    tmp_path: Path, server: FileServer
) -> None:
    heard: list[tuple[int, int]] = []
    path = pull(tmp_path, lambda *bytes_: heard.append(bytes_), model=own(server))
    assert path.read_bytes() == CONTENT
    assert left_in(tmp_path) == ["own.onnx"]
    assert heard[0] == (0, len(CONTENT))
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert pull(tmp_path, model=own(server)) == path
    assert server.asked == [(PATH, None)]


def test_a_download_that_was_cut_off_goes_on_where_it_ended(
    tmp_path: Path, server: FileServer
) -> None:
    server.cuts = [1000, 2000]
    assert pull(tmp_path, model=own(server)).read_bytes() == CONTENT
    assert [range_ for _, range_ in server.asked] == [None, "bytes=1000-", "bytes=3000-"]


def test_the_next_pull_goes_on_where_a_stopped_one_ended(
    tmp_path: Path, server: FileServer
) -> None:
    def stop(done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    server.cuts = [1000]
    with pytest.raises(KeyboardInterrupt):
        pull(tmp_path, stop, model=own(server))
    assert pull(tmp_path, model=own(server)).read_bytes() == CONTENT
    assert [range_ for _, range_ in server.asked] == [None, "bytes=1000-"]


def test_other_bytes_under_the_name_are_refused_and_not_kept(
    tmp_path: Path, server: FileServer
) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(ModelUnavailable, match=r"is not the weights of own .*SHA-256"):
        pull(tmp_path, model=own(server))
    assert not (tmp_path / "own.onnx").exists()
    server.content = CONTENT
    assert pull(tmp_path, model=own(server)).read_bytes() == CONTENT


def test_a_longer_file_under_the_name_is_refused_before_it_has_come(
    tmp_path: Path, server: FileServer
) -> None:
    server.content = CONTENT + b"?"
    with pytest.raises(ModelUnavailable, match=f"sends more than its {len(CONTENT)} bytes"):
        pull(tmp_path, model=own(server))


def test_a_missing_file_is_refused_at_once_with_the_ways_that_are_left(
    tmp_path: Path, server: FileServer
) -> None:
    server.statuses = [404]
    with pytest.raises(ModelUnavailable, match=r"\(404\).*models pull own --from FILE") as refused:
        pull(tmp_path, model=own(server))
    assert server.url.removeprefix("http://") in refused.value.details
    assert len(server.asked) == 1


def test_a_file_that_has_moved_is_followed(tmp_path: Path, server: FileServer) -> None:
    with file_server() as elsewhere:
        server.moved_to = f"{elsewhere.url}/objects/4711"
        elsewhere.cuts = [1000]
        assert pull(tmp_path, model=own(server)).read_bytes() == CONTENT
        assert elsewhere.asked == [("/objects/4711", None), ("/objects/4711", "bytes=1000-")]


def test_a_mirror_sends_what_the_first_server_did_not(tmp_path: Path, server: FileServer) -> None:
    with file_server() as mirror:
        server.cuts = [1000]
        server.statuses = [200, 410]
        assert pull(tmp_path, model=own(server, mirror)).read_bytes() == CONTENT
        assert mirror.asked == [(PATH, "bytes=1000-")]


def test_a_mirror_replaces_a_server_with_other_bytes(tmp_path: Path, server: FileServer) -> None:
    server.content = bytes(len(CONTENT))
    with file_server() as mirror:
        assert pull(tmp_path, model=own(server, mirror)).read_bytes() == CONTENT


def test_when_no_mirror_has_it_all_of_them_are_named(tmp_path: Path, server: FileServer) -> None:
    with file_server() as mirror:
        server.statuses = [404]
        mirror.statuses = [403]
        with pytest.raises(ModelUnavailable, match=r"\(404\).*\(403\).*--from FILE"):
            pull(tmp_path, model=own(server, mirror))


@contextmanager
def disk_of(most_bytes: int) -> Iterator[None]:
    """No file of this process may become larger, as if the disk were full."""
    import resource  # only POSIX has it

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.linux
def test_a_full_disk_is_named_and_what_has_come_is_kept(tmp_path: Path, server: FileServer) -> None:
    with (
        disk_of(50_000),
        pytest.raises(ModelUnavailable, match=r"the disk is full at .*: free 50 MB"),
    ):
        pull(tmp_path, model=own(server))
    assert pull(tmp_path, model=own(server)).read_bytes() == CONTENT
    assert server.asked[1:] == [(PATH, "bytes=50000-")]


def test_a_file_from_another_machine_is_checked_and_copied(tmp_path: Path) -> None:
    brought = tmp_path / "download.onnx"
    brought.write_bytes(CONTENT[1:])
    model = msgspec.structs.replace(own(), urls=("https://example.com/own.onnx",))
    with pytest.raises(ModelUnavailable, match=r"download\.onnx is not the weights of own"):
        pull(tmp_path / "models", model=model, brought=brought)
    brought.write_bytes(CONTENT)
    assert pull(tmp_path / "models", model=model, brought=brought).read_bytes() == CONTENT
    assert brought.exists()


def test_a_side_car_of_an_operator_says_where_its_weights_come_from(
    tmp_path: Path, server: FileServer
) -> None:
    entry = {"size_px": 512, "purpose": "hats", "size_bytes": len(CONTENT)}
    entry |= {"sha256": own().sha256, "urls": [f"{server.url}{PATH}"]}
    (tmp_path / "hats.onnx.json").write_text(json.dumps(entry))
    assert [model.purpose for model in models(tmp_path) if model.name == "hats"] == ["hats"]
    with pytest.raises(ModelUnavailable, match=r"`foremask models pull hats` fetches it \(1 MB"):
        model_path(tmp_path, network="hats")
    path = pull(tmp_path, model=model_named("hats", tmp_path))
    assert model_path(tmp_path, network="hats") == path
    assert spec_of(path).size_px == 512
