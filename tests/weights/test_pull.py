import hashlib
import io
import json
import ssl
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import trustme

from foremask.errors import ModelUnavailable
from foremask.weights import download
from foremask.weights.catalogue import Archive, Model, model_named, model_path, models, spec_of
from foremask.weights.pull import pull
from tests.support.disks import disk_of
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


def packed() -> bytes:
    """Make a tarball of the layout of IS-Net's."""
    chunks = {f"chunk-{start}": CONTENT[start : start + 40_000] for start in (80_000, 0, 40_000)}
    listed = [{"hash": name, "offsets": [int(name[6:])]} for name in chunks]
    resources = json.dumps({"/models/tiny": {"chunks": listed}}).encode()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in {**chunks, "other": b"not ours", "resources.json": resources}.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


PACKED = packed()


def own_in_archive(server: FileServer) -> Model:
    archive = Archive(len(PACKED), hashlib.sha256(PACKED).hexdigest(), "/models/tiny")
    server.content = PACKED
    return msgspec.structs.replace(own(server), archive=archive)


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


@pytest.mark.parametrize("make", [own, own_in_archive])
def test_other_bytes_under_the_name_are_refused_and_not_kept(
    tmp_path: Path, server: FileServer, make: Callable[[FileServer], Model]
) -> None:
    model = make(server)
    right = server.content
    server.content = right[:-1] + b"?"
    with pytest.raises(ModelUnavailable, match=r"is not the weights of own .*SHA-256"):
        pull(tmp_path, model=model)
    assert not (tmp_path / "own.onnx").exists()
    server.content = right
    assert pull(tmp_path, model=model).read_bytes() == CONTENT


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


def test_a_busy_server_is_asked_again_and_then_no_more(tmp_path: Path, server: FileServer) -> None:
    server.statuses = [503, 429]
    assert pull(tmp_path, model=own(server)).read_bytes() == CONTENT
    (tmp_path / "own.onnx").unlink()
    server.statuses = [503] * 10
    with pytest.raises(ModelUnavailable, match="answered 503"):
        pull(tmp_path, model=own(server))
    assert len(server.statuses) == 7


def test_a_server_that_takes_no_ranges_sends_everything_again(
    tmp_path: Path, server: FileServer
) -> None:
    server.takes_ranges = False
    server.cuts = [1000]
    assert pull(tmp_path, model=own(server)).read_bytes() == CONTENT
    assert [range_ for _, range_ in server.asked] == [None, "bytes=1000-"]


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    for url, reason in (("http://127.0.0.1:9/a", "cannot be reached"), ("ftp://a/b", "asked for")):
        with pytest.raises(ModelUnavailable, match=rf"{reason} .*--from FILE"):
            pull(tmp_path, model=msgspec.structs.replace(own(), urls=(url,)))


def test_a_mirror_is_asked_for_the_files_name_and_no_other_server(
    tmp_path: Path, server: FileServer
) -> None:
    model = msgspec.structs.replace(own(), urls=("https://example.com/v1/own.onnx?raw",))
    mirror = server.url.replace("http://", "http://me:secret@") + "/releases/"
    assert pull(tmp_path, model=model, mirror=mirror).read_bytes() == CONTENT
    assert server.asked == [("/releases/own.onnx", None)]
    server.statuses = [404]
    with pytest.raises(ModelUnavailable, match=r"\(404\)") as refused:
        pull(tmp_path / "others", model=model, mirror=mirror)
    assert "secret" not in refused.value.details


def test_a_certificate_of_the_company_is_trusted_when_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "company.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with file_server(context) as server:
        with pytest.raises(ModelUnavailable, match="SSL_CERT_FILE"):
            pull(tmp_path, model=own(server))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "company.pem"))
        assert pull(tmp_path, model=own(server)).read_bytes() == CONTENT


def test_two_pulls_at_once_fetch_once(tmp_path: Path, server: FileServer) -> None:
    arrived = threading.Event()
    heard: set[tuple[int, int]] = set()

    def wait(done: int, _total: int) -> None:
        if done:
            arrived.set()
            time.sleep(0.5)

    model = own(server)
    first = threading.Thread(target=pull, args=(tmp_path, wait), kwargs={"model": model})
    first.start()
    arrived.wait(60)
    pull(tmp_path, lambda *bytes_: heard.add(bytes_), model=model)
    first.join()
    assert server.asked == [(PATH, None)]
    assert heard == {(0, len(CONTENT))}


def test_a_whole_archive_survives_a_failed_pull_and_goes_when_it_is_unpacked(
    tmp_path: Path, server: FileServer
) -> None:
    obstacle = tmp_path / ".pull-own" / "weights.part"
    obstacle.mkdir(parents=True)
    with pytest.raises(ModelUnavailable):
        pull(tmp_path, model=own_in_archive(server))
    obstacle.rmdir()
    assert pull(tmp_path, model=own_in_archive(server)).read_bytes() == CONTENT
    assert left_in(tmp_path) == ["own.onnx"]
    assert server.asked == [(PATH, None)]


@pytest.mark.parametrize("content", [PACKED, CONTENT])
def test_an_archive_or_its_weights_from_another_machine_need_no_server(
    tmp_path: Path, server: FileServer, content: bytes
) -> None:
    brought = tmp_path / "brought"
    brought.write_bytes(content)
    model = own_in_archive(server)
    assert pull(tmp_path / "models", model=model, brought=brought).read_bytes() == CONTENT
    assert server.asked == []
    assert brought.exists()


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
