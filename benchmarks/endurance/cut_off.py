"""Cuts a worker host's network while it masks (Linux, as root).

``python -m benchmarks.endurance.cut_off``

The host is a network namespace of its own. PostgreSQL (over TCP), S3 and the API are where its
cable leads to; cut, it carries nothing and says nothing, as a pulled one does. Only the network
that masks is replaced.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.support import synth
from tests.support.hosts import WORKER, Hosts, connected

from benchmarks.endurance.chaos import Quiet, frames_in
from foremask.options import Preset
from foremask.service.jobs import records
from foremask.service.jobs.admission import NewJob, admit
from foremask.service.jobs.database import Database, open_database
from foremask.service.jobs.records import Attempt
from foremask.service.jobs.tokens import create_token
from foremask.service.storage.objects import open_objects

NET = f"10.231.{os.getpid() % 256}"  # what an earlier run left behind is not in the way
HERE, THERE = f"{NET}.1", f"{NET}.2"
NOBODY = "02:00:00:00:00:01"  # a link address that no interface has
REFUSED = ("step.stale", "step.lost", "kept=False", "step.unrecorded")
FRAMES, FPS = 1200, 60  # three segments, each of which takes more than 3 s to mask


class Cable:
    """Between this machine and the far host."""

    def __init__(self) -> None:
        self.name = f"far-{os.getpid()}"
        self.near = f"near{os.getpid() % 100_000}"

    def __enter__(self) -> "Cable":
        _ip("netns", "add", self.name)
        _ip("link", "add", self.near, "type", "veth", "peer", "name", "far", "netns", self.name)
        _ip("address", "add", f"{HERE}/30", "dev", self.near)
        _ip("link", "set", self.near, "up")
        for line in (f"address add {THERE}/30 dev far", "link set far up", "link set lo up"):
            _ip("-n", self.name, *line.split())
        return self

    def __exit__(self, *_: object) -> None:
        _ip("netns", "delete", self.name)

    @property
    def inside(self) -> list[str]:
        """What starts a command at the far end, under a host name of its own."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname far; exec "$@"', "far"]
        return ["ip", "netns", "exec", self.name, *named]

    def cut(self) -> None:
        """Both ends send on, to nobody."""
        _ip("neigh", "replace", THERE, "lladdr", NOBODY, "nud", "permanent", "dev", self.near)
        reported = f"neigh replace {HERE} lladdr {NOBODY} nud permanent dev far"
        _ip("-n", self.name, *reported.split())

    def mend(self) -> None:
        """Both ends look for each other again."""
        _ip("neigh", "delete", THERE, "dev", self.near)
        _ip("-n", self.name, *f"neigh delete {HERE} dev far".split())


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)  # noqa: S603, S607


@contextmanager
def _origin(folder: Path) -> Iterator[str]:
    """The callers' web server, which both ends reach."""
    step = round(1 / (FPS * synth.TIME_BASE))
    spec = synth.Spec(pts=tuple(range(0, FRAMES * step, step)), last_duration=step)
    synth.write(folder / "clip.mp4", spec)
    server = ThreadingHTTPServer((HERE, 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{HERE}:{server.server_address[1]}/clip.mp4"
    server.shutdown()
    server.server_close()


async def _until[T](condition: Callable[[], Awaitable[T | None]], within_s: float) -> T:
    """The first answer that is something."""
    async with asyncio.timeout(within_s):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.05)


class Run:
    """One cut, and what can be seen of it."""

    def __init__(self, hosts: Hosts, cable: Cable, clip_url: str, database: Database) -> None:
        self.hosts, self.cable, self.clip_url, self.database = hosts, cable, clip_url, database

    async def works(self, host: str) -> bool:
        """Whether a host's worker takes steps."""
        return "worker.started" in self.hosts.log(host)

    async def submit(self) -> str:
        """Ask for a mask."""
        _, token = await create_token(self.database, "caller")
        new = NewJob(token_id=token.id, preset=Preset.MP4_H264, video_url=self.clip_url)
        return (await admit(self.database, new)).request_id

    async def segments(self, job: str, worker: str) -> list[Attempt]:
        """A host's attempts at a job's segments."""
        reported = await records.history(self.database, job)
        return [
            each
            for each in reported
            if each.stage == "segment" and (each.worker or "").startswith(worker)
        ]

    async def ended(self, job: str, within_s: float) -> records.Record:
        """The job, once it has ended."""

        async def over() -> records.Record | None:
            record = await records.read_any(self.database, job)
            return record if record.status.ended else None

        return await _until(over, within_s)

    async def measure(self, cut_s: float) -> dict[str, Any]:
        """Cut, watch, mend, watch."""
        far = self.hosts.start("far", *WORKER, within=self.cable.inside)
        near = self.hosts.start("near", *WORKER)
        for host in ("far", "near"):
            await _until(partial(self.works, host), 120.0)
        job = await self.submit()

        async def masking() -> bool:
            return any(not each.outcome for each in await self.segments(job, "far"))

        await _until(masking, 120.0)
        await asyncio.sleep(1.0)
        self.cable.cut()
        cut_at = time.time()
        record = await self.ended(job, 120.0)
        ended_s = time.time() - cut_at
        lost = [each for each in await self.segments(job, "far") if each.outcome == "lost"]
        again = [
            each
            for each in await records.history(self.database, job)
            for one in lost
            if (each.stage, each.number, each.attempt) == (one.stage, one.number, one.attempt + 1)
        ]
        await asyncio.sleep(max(0.0, cut_at + cut_s - time.time()))
        self.cable.mend()
        mended_at = time.time()

        async def refused() -> str | None:
            after = self.hosts.log("far")
            return next((each for each in REFUSED if each in after), None)

        how = await _until(refused, 300.0)
        refused_s = time.time() - mended_at
        near.terminate()
        near.wait(30)
        second = await self.submit()
        await self.ended(second, 300.0)
        back_s = (await self.segments(second, "far"))[0].started_at.timestamp() - mended_at
        far.terminate()
        far.wait(30)
        objects = await open_objects(self.hosts.environ("")["FOREMASK_OBJECTS_URL"], "")
        mask = self.hosts.root / "mask.mp4"
        assert record.result_key is not None  # noqa: S101
        await objects.get(record.result_key, mask)
        after = await records.read_any(self.database, job)
        return {
            "cut for s": round(mended_at - cut_at, 1),
            "steps that the far host held": len(lost),
            "begun elsewhere after s": [
                round(each.started_at.timestamp() - cut_at, 1) for each in again
            ],
            "job ended after s": round(ended_s, 1),
            "status": str(record.status),
            "frames": f"{frames_in(mask)} of {FRAMES}",
            "the far host's write was refused": how,
            "after s": round(refused_s, 1),
            "record unchanged": after == record,
            "next step at the far host after s": round(back_s, 1),
        }


async def run(hosts: Hosts, cable: Cable, clip_url: str, cut_s: float) -> dict[str, Any]:
    """What came of it."""
    os.environ.update(hosts.store)  # the store's variables, for this process too
    async with open_database(hosts.database_url) as database:
        return await Run(hosts, cable, clip_url, database).measure(cut_s)


def main() -> int:
    """Print what came of it; 1 when anything was lost or accepted twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=25.0, help="how long the cable is cut")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        print("network namespaces need root", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the namespace goes with us
    with tempfile.TemporaryDirectory(prefix="foremask-cut-", ignore_cleanup_errors=True) as name:
        root, clips = Path(name), Path(name) / "clips"
        clips.mkdir()
        with Cable() as cable, _origin(clips) as clip_url, connected(root, HERE) as hosts:
            try:
                reported = asyncio.run(run(hosts, cable, clip_url, asked.seconds))
            except BaseException:
                print(hosts.log("far"), file=sys.stderr)
                raise
    print(json.dumps(reported, indent=2))
    good = reported["status"] == "completed" and reported["record unchanged"]
    return 0 if good and reported["frames"] == f"{FRAMES} of {FRAMES}" else 1


if __name__ == "__main__":
    sys.exit(main())
