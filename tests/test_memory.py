"""How much memory a mask may take."""

from dataclasses import replace

from foremask.memory import available_memory, share_of_memory
from foremask.serve import share_of_one
from foremask.settings import read_settings


def test_what_is_available_is_part_of_what_there_is() -> None:
    """Some, and no more than the whole machine or container."""
    assert 0 < available_memory() <= share_of_memory(1) * 4 / 3


def test_worker_processes_of_one_machine_share_its_memory() -> None:
    """Three of them may take together what one alone may, or each what the setting says."""
    settings = replace(read_settings({}), workers=3)
    told = share_of_one(settings)
    assert told["FOREMASK_WORKERS"] == "1"
    assert int(told["FOREMASK_JOB_MEMORY"]) == share_of_memory(3)
    worker = read_settings(told)
    assert (worker.workers, worker.job_memory) == (1, share_of_memory(3))
    said = share_of_one(read_settings({"FOREMASK_JOB_MEMORY": "5G"}))
    assert said["FOREMASK_JOB_MEMORY"] == str(5 << 30)
