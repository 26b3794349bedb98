from msgspec.structs import replace

from foremask.machine.hardware import available_memory, share_of_memory
from foremask.service.run.serve import share_of_one
from foremask.settings import read_settings


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
