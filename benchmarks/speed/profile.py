"""Says where the processor's time goes: each stage of masking a clip, in milliseconds a frame.

``python -m benchmarks.speed.profile CLIP`` masks the clip with every tier, each in a process of its
own. "Start" is what the process takes before it masks: imports, and the network's loading. The
stages and the start are together at least 95 % of what the system counts for the process.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from benchmarks.machine import facts, header, row, run
from foremask.machine import process_setup
from foremask.options import Files, JobSpec, Quality, Resources

ALL: Final = "all"
START: Final = "start"
LEAST_SHARE: Final = 0.95
MOST_SHARE: Final = 1.05


def costs(source: Path, quality: Quality) -> dict[str, float]:
    """Mask a file in this process; return the processor milliseconds a frame by stage."""
    process_setup.prepare()
    from foremask.masking.runner import run as run_masking  # after `prepare`, before the clock
    from foremask.pipeline.networks import network_for

    network_for(Resources())
    started_s = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        files = Files(source=source, target=Path(folder) / "mask.mp4")
        report = run_masking(JobSpec(quality=quality), files, resources=Resources())
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found = {ALL: usage.ru_utime + usage.ru_stime, START: started_s, **report.stage_cpu_s}
    return {stage: 1000 * spent_s / report.frames_in for stage, spent_s in found.items()}


def main(clip: Path, *, tiers: Sequence[Quality] = tuple(Quality)) -> None:
    found = {}
    for quality in tiers:
        with ProcessPoolExecutor(1, get_context("spawn")) as own:
            found[quality] = own.submit(costs, clip, quality).result()
    stages = {stage: spent for each in found.values() for stage, spent in each.items()}
    header("cpu-ms a frame", *tiers)
    for stage in sorted(stages, key=lambda each: -stages[each]):
        row(stage, *(f"{found[each].get(stage, 0.0):.1f}" for each in tiers))
    print(json.dumps(facts()))
    for quality, spent in found.items():
        share = (sum(spent.values()) - spent[ALL]) / spent[ALL]
        if not LEAST_SHARE < share < MOST_SHARE:
            sys.exit(f"the stages of {quality} are {share:.0%} of the process")


if __name__ == "__main__":
    run(main, __doc__)
