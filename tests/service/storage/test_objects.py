import asyncio
import errno
import fcntl
import os
import re
import resource
import time
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from foremask.errors import LinkInvalid, ObjectLost, ServiceUnavailable
from foremask.service.storage.objects import Objects, make_local_key, open_objects
from tests.support.http_server import s3_server
from tests.support.patience import wait_until

pytestmark = pytest.mark.slow

BASE_URL = "http://127.0.0.1:8000"
MIB = 1 << 20


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with (
        s3_server(tmp_path_factory.mktemp("s3")) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        yield "s3://foremask-test/some/prefix"


@pytest.fixture(params=["local", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "local":
        return await open_objects((tmp_path / "objects").as_uri(), BASE_URL)
    return await open_objects(request.getfixturevalue("s3"), BASE_URL)


async def chunks(*sizes: int) -> AsyncIterator[bytes]:
    for number, size in enumerate(sizes):
        yield bytes([number % 256]) * size


async def test_what_is_put_is_got(store: Objects, tmp_path: Path) -> None:
    for name, content in {"a.mp4": os.urandom(9 * MIB + 17), "b.gif": b"", "c": b"x"}.items():
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(content)
        key = f"results/job/{name}"
        await store.put(key, source)
        stored = await store.head(key)
        assert (stored["path"], stored["size"]) == (key, len(content))
        assert str(stored["e_tag"]).startswith('"')
        await store.get(key, target)
        assert target.read_bytes() == content
        pieces = [block async for block in store.stream(key, 5, 2 * MIB)]
        assert b"".join(pieces) == content[5 : 5 + 2 * MIB]


async def test_a_stream_is_stored_whole_or_not_at_all(store: Objects) -> None:
    await store.put("uploads/whole", chunks(3, 5 * MIB, 0, 7 * MIB))
    assert (await store.head("uploads/whole"))["size"] == 12 * MIB + 3

    async def breaking() -> AsyncIterator[bytes]:
        async for chunk in chunks(9 * MIB, 9 * MIB):
            yield chunk
        raise LinkInvalid("no more")

    with pytest.raises(LinkInvalid):
        await store.put("uploads/broken", breaking())

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(MIB)
            await asyncio.sleep(0.01)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await store.put("uploads/cancelled", endless())
    for key in ("uploads/broken", "uploads/cancelled"):
        with pytest.raises(ObjectLost, match=key):
            await store.head(key)
    assert [stored["path"] async for stored in store.list("uploads")] == ["uploads/whole"]
    await store.delete("uploads/whole")


async def test_a_file_that_is_shortened_while_it_is_read_is_lost(store: Objects) -> None:
    await store.put("uploads/shortened", chunks(3 * MIB))
    blocks = store.stream("uploads/shortened")
    await anext(blocks)
    await store.put("uploads/shortened", chunks(MIB + 1))
    with pytest.raises(ObjectLost, match="changed while it was read"):
        _ = [block async for block in blocks]


async def test_what_is_deleted_is_lost(store: Objects, tmp_path: Path) -> None:
    for key in ("jobs/1/a", "jobs/1/b/c", "jobs/10/a"):
        await store.put(key, chunks(1))
    for _ in range(2):
        await store.delete_under("jobs/1")
        assert [each["path"] async for each in store.list("jobs")] == ["jobs/10/a"]
    await store.delete("jobs/1/a", "jobs/never")
    gone = "jobs/1/a"
    for read in (store.head(gone), store.get(gone, tmp_path / "x"), store.read(gone, 0, 1)):
        with pytest.raises(ObjectLost, match="jobs/1/a is no longer there"):
            await read
    await store.delete("jobs/10/a")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../secret", "a/../b", "a//b", "a/", ".hidden", "a\nb", "ä"]
)
async def test_a_key_that_could_lead_elsewhere_is_refused(tmp_path: Path, key: str) -> None:
    store = await open_objects((tmp_path / "objects").as_uri(), BASE_URL)
    with pytest.raises(ValueError, match="not an object key"):
        await store.head(key)


async def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    store = await open_objects((tmp_path / "objects").as_uri(), BASE_URL)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await store.put("big", chunks(*[MIB] * 300))
    await store.get("big", tmp_path / "big")
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    assert (tmp_path / "big").stat().st_size == 300 * MIB
    assert grown_mib < 100


async def test_the_signing_key_is_its_owners_alone(tmp_path: Path) -> None:
    made = tmp_path / "objects" / "signing-key"
    umask = os.umask(0)
    try:
        await open_objects(made.parent.as_uri(), BASE_URL)
    finally:
        os.umask(umask)
    assert (made.stat().st_mode & 0o777, made.stat().st_size) == (0o600, 32)
    assert [each.name for each in made.parent.iterdir()] == ["signing-key"]
    made.chmod(0o644)
    key = made.read_bytes()
    await open_objects(made.parent.as_uri(), BASE_URL)
    assert (made.stat().st_mode & 0o777, made.read_bytes()) == (0o600, key)


@pytest.mark.parametrize("size", [0, 31, 33])
async def test_a_signing_key_of_another_length_is_refused(
    s3: str, tmp_path: Path, size: int
) -> None:
    """Anybody could sign links with an empty one."""
    for url in (s3.replace("prefix", f"with-{size}-bytes"), (tmp_path / "objects").as_uri()):
        opened = await open_objects(url, BASE_URL)
        await opened.put("signing-key", chunks(size))
        with pytest.raises(ServiceUnavailable, match="signing key"):
            await opened.check()
        if size or url.startswith("s3:"):  # an empty local file is one that was not yet written
            with pytest.raises(ServiceUnavailable, match=f"has {size} bytes, not 32"):
                await open_objects(url, BASE_URL)


async def test_a_signing_key_that_was_replaced_is_told(store: Objects) -> None:
    await store.check()
    await store.put("signing-key", chunks(32))
    with pytest.raises(ServiceUnavailable, match="another signing key"):
        await store.check()


def test_a_signing_key_that_another_process_writes_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "signing-key"
    with path.open("ab") as first, ThreadPoolExecutor() as threads:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = threads.submit(make_local_key, path)
        waits = f":{path.stat().st_ino} "
        wait_until(lambda: re.search(f"->.*{waits}", Path("/proc/locks").read_text()))
        first.write(b"k" * 32)
        first.close()
        second.result()
    assert path.read_bytes() == b"k" * 32


async def test_a_link_is_good_for_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await open_objects((tmp_path / "objects").as_uri(), BASE_URL)
    link = store.link("results/1/mask.mp4", 3600)
    assert link == store.link("results/1/mask.mp4", 3600), "the same within the hour"
    assert store.signer.key_of(link) == "results/1/mask.mp4"
    expires = int(parse_qs(urlsplit(link).query)["expires"][0])
    assert 3600 <= expires - time.time() <= 7200
    monkeypatch.setattr(time, "time", lambda: expires + 1.0)
    with pytest.raises(LinkInvalid, match="expired"):
        store.signer.key_of(link)


async def test_s3_signs_its_own_links(s3: str) -> None:
    store = await open_objects(s3, BASE_URL)
    await store.put("results/9/9.mp4", chunks(1000))
    link = store.link("results/9/9.mp4", 60)
    assert not link.startswith(BASE_URL)
    async with httpx.AsyncClient() as client:
        answer = await client.get(link, headers={"Range": "bytes=10-19"})
    assert (answer.status_code, len(answer.content)) == (206, 10)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"] == 'attachment; filename="9.mp4"'


async def test_a_disk_that_fails_when_it_is_synced_is_a_store_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system says only then that it is full."""
    store = await open_objects((tmp_path / "objects").as_uri(), BASE_URL)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(ServiceUnavailable):
        await store.put("results/a/a.mp4", tmp_path / "file")
