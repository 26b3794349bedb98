from tests.support.programs import fresh

PROGRAM = """
import resource, threading
from foremask.machine import process_setup
process_setup.prepare()
import cv2, numpy as np

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
print(faults() - before, cv2.getNumThreads())
"""


def test_memory_of_frames_is_used_again_and_opencv_has_one_thread() -> None:
    """150 planes of 2025 pages each, in another thread: hardly a page is made anew."""
    pages, threads = map(int, fresh(PROGRAM).stdout.split())
    assert pages < 2 * 2025
    assert threads == 1


def test_openvino_brings_no_converter_of_models() -> None:
    """It takes a sixth of the time of all that is imported."""
    program = (
        "import sys; from foremask.machine import process_setup; process_setup.prepare(); "
        "import openvino; print('openvino.tools.ovc.convert' in sys.modules)"
    )
    assert fresh(program).stdout.split() == ["False"]


def test_no_two_processes_have_the_same_name() -> None:
    """Two containers may share a host's name, and both be process 1."""
    program = (
        "import os; os.getpid = lambda: 1; "
        "from foremask.machine.process_setup import name; print(name(), name())"
    )
    one, other = (fresh(program).stdout.split() for _ in range(2))
    assert one[0] == one[1]
    assert other[0] == other[1] != one[0]
