import pytest
from msgspec.structs import replace

from foremask.machine.hardware import available_memory, share_of_memory
from foremask.service.run.serve import share_of_one
from foremask.settings import read_settings
from tests.support.programs import fresh

PROGRAM = """
import resource, sys, threading
from foremask.machine import process_setup
process_setup.prepare()
import cv2, numpy as np, openvino

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(50):
        planes = [np.ones((1080, 1920), np.float32) for _ in range(3)]

work()
thread = threading.Thread(target=work)
before = faults()
thread.start()
thread.join()
print(faults() - before, cv2.getNumThreads(), "openvino.tools.ovc.convert" in sys.modules)
"""


@pytest.mark.slow
def test_frames_use_memory_again_opencv_has_one_thread_and_openvino_no_converter() -> None:
    """The thread makes 150 planes of 2025 pages each; hardly a page is new."""
    pages, *libraries = fresh(PROGRAM).stdout.split()
    assert int(pages) < 2 * 2025
    assert libraries == ["1", "False"]


KEEPS_SOME = """
from pathlib import Path
from foremask.machine import process_setup

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) / 256

process_setup.give_memory_back()
before = resident_mib()
blocks = [bytes(16 << 10) for _ in range(4096)]
kept = blocks[::100]  # as a task or a header does that outlives its neighbours
del blocks
held = resident_mib() - before
process_setup.trim_memory()
print(held, resident_mib() - before)
"""


@pytest.mark.slow
@pytest.mark.linux
def test_free_memory_below_memory_in_use_is_returned() -> None:
    """One block in a hundred is kept of 64 MiB."""
    held_mib, left_mib = map(float, fresh(KEEPS_SOME).stdout.split())
    assert held_mib > 32
    assert left_mib < 6


@pytest.mark.slow
def test_no_two_processes_have_the_same_name() -> None:
    """Two containers may share a host's name, and both be process 1."""
    program = (
        "import os; os.getpid = lambda: 1; "
        "from foremask.machine.process_setup import name; print(name(), name())"
    )
    one, other = (fresh(program).stdout.split() for _ in range(2))
    assert one[0] == one[1] != other[0] == other[1]


def test_what_is_available_is_part_of_what_there_is() -> None:
    assert 0 < available_memory() <= share_of_memory(1) * 4 / 3


def test_worker_processes_of_one_machine_share_its_memory() -> None:
    settings = replace(read_settings({}), workers=3)
    reported = share_of_one(settings)
    assert reported["FOREMASK_WORKERS"] == "1"
    assert int(reported["FOREMASK_JOB_MEMORY"]) == share_of_memory(3)
    worker = read_settings(reported)
    assert (worker.workers, worker.job_memory) == (1, share_of_memory(3))
    message = share_of_one(read_settings({"FOREMASK_JOB_MEMORY": "5G"}))
    assert message["FOREMASK_JOB_MEMORY"] == str(5 << 30)
