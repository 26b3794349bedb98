import os
import time
from pathlib import Path

from foremask.service.jobs import admission
from foremask.service.worker.maintenance import sweep_uploads
from tests.service.worker.conftest import Caller
from tests.support.jobs import value


async def test_an_old_upload_stays_until_the_job_that_reads_it_has_ended(
    caller: Caller, tmp_path: Path
) -> None:
    work = caller.work
    key = "uploads/waiting/clip.mp4"
    await admission.new_upload(caller.database, key, caller.token_id)
    await admission.reserve(caller.database, key, 4, admission.NO_LIMIT)
    stored = tmp_path / "objects" / key
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"clip")
    job = await caller.submit("http://example.com/clip.mp4", source_key=key)
    long_ago = time.time() - 30 * 86400
    os.utime(stored, (long_ago, long_ago))
    await caller.database.all("update uploads set made_at = made_at - interval '30 d'")
    await sweep_uploads(work)
    assert stored.read_bytes() == b"clip"
    assert await value(caller.database, "select bytes from uploads") == 4
    await caller.cancel(job)
    await sweep_uploads(work)
    assert not stored.exists()
    assert await value(caller.database, "select count(*) from uploads") == 0
