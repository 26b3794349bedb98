"""Plays a clip to the service as a live stream; says how many masks come, how late, at what cost.

``python -m benchmarks.speed.live_stream [--seconds 180] [--fps 24] [--beside-a-job]`` plays a DAVIS
clip of 854 x 480 forwards and backwards. With ``--beside-a-job``, a worker masks the same clip again
and again, and the table has the processor time of both.
"""

import asyncio
import itertools
import os
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from tests.service.api.live_client import LiveClient, jpeg, stream
from tests.support import synth
from tests.support.origin import gives, listening
from tests.support.programs import children

from benchmarks.clips import DATA, frames_of
from benchmarks.machine import header, row, run
from benchmarks.service import (
    MASK_PATH,
    TOKEN,
    caller_of,
    family_mib,
    pid,
    quantiles,
    running,
    workplace,
)
from foremask.service.run.serve import Member

CLIP = DATA / "davis" / "parkour"
WARM_S = 5.0  # after the first mask


@dataclass
class Sent:
    """What a client has sent, and how late the masks came; only while it counts."""

    counts: bool = False
    ends: bool = False
    frames: int = 0
    masks: int = 0  # also of what was not counted
    late_s: list[float] = field(default_factory=list)
    _sent_s: dict[int, float] = field(default_factory=dict)

    def send(self, client: LiveClient, pictures: list[bytes], fps: float) -> None:
        to_and_fro = itertools.cycle([*pictures, *reversed(pictures)])
        began_s = time.monotonic()
        for number in itertools.count():
            if self.ends:
                break
            time.sleep(max(0.0, began_s + number / fps - time.monotonic()))
            self.frames += self.counts
            self._sent_s[number] = time.monotonic()
            client.send(number, next(to_and_fro))
        client.say(type="stop")

    def receive(self, client: LiveClient) -> None:
        for mask in client.masks():
            self.masks += 1
            if self.counts:
                self.late_s.append(time.monotonic() - self._sent_s[mask.frame_id])


def processor_s(member: Member) -> float:
    """The processor time of the process's children that are alive."""
    total = 0
    for child in children(pid(member) or 0):
        try:
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


async def mask_for_ever(port: int, root: Path, fps: float) -> None:
    """Submit the same clip again, whenever its mask is done."""
    pictures = list(frames_of(CLIP))
    height, width = pictures[0].shape[:2]
    pts = synth.even(len(pictures), Fraction(fps))
    clip = synth.write(root / "job.mp4", synth.Spec(width, height, pts), pictures).read_bytes()
    async with listening() as origin, caller_of(port) as client:
        origin.answers["/a.mp4"] = gives(clip)
        body = {"video": origin.url("/a.mp4"), "quality": "fast"}
        while True:
            answer = await client.post(MASK_PATH, json=body)
            address = f"/v2/status/{answer.json()['request_id']}"
            while (await client.get(address)).json()["status"] == "IN_PROGRESS":  # noqa: ASYNC110
                await asyncio.sleep(0.5)


async def measure(root: Path, seconds: float, fps: float, *, beside_a_job: bool) -> None:
    sent = Sent()
    pictures = [jpeg(picture) for picture in frames_of(CLIP)]
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(running(root, workers=1))
        api, worker, port = service.api, service.workers[0], service.port
        if beside_a_job:
            job = asyncio.create_task(mask_for_ever(port, root, fps))
            stack.callback(job.cancel)
        client = stack.enter_context(stream(f"http://127.0.0.1:{port}", TOKEN))
        sending = asyncio.to_thread(sent.send, client, pictures, fps)
        receiving = asyncio.to_thread(sent.receive, client)
        both = asyncio.gather(sending, receiving)
        while not sent.masks:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(WARM_S)
        sent.counts = True
        before = [family_mib(api), processor_s(api), processor_s(worker)]
        await asyncio.sleep(seconds)
        after = [family_mib(api), processor_s(api), processor_s(worker)]
        sent.counts = False
        sent.ends = True
        await both
    header(
        "seconds", "sent", "masks a second", "dropped", "lateness p50, p95", "API, MiB", "CPU, s"
    )
    masks = len(sent.late_s)
    half, most = quantiles(sent.late_s, 0.5, 0.95) or (float("nan"), float("nan"))
    row(
        f"{seconds:.0f}",
        sent.frames,
        f"{masks / seconds:.1f}",
        f"{1 - masks / sent.frames:.1%}",
        f"{half:.2f}, {most:.2f} s",
        f"{before[0]:.0f} to {after[0]:.0f}",
        f"stream {after[1] - before[1]:.0f}, job {after[2] - before[2]:.0f}",
    )


def main(*, seconds: float = 180.0, fps: float = 24.0, beside_a_job: bool = False) -> None:
    with workplace() as root:
        asyncio.run(measure(root, seconds, fps, beside_a_job=beside_a_job))


if __name__ == "__main__":
    run(main, __doc__)
