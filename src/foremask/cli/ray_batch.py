"""Runs the jobs of a batch as tasks of a Ray cluster; the only home of Ray (docs/adr/0177).

A task's process imports this module before it is prepared, so nothing here may import NumPy.
"""

import dataclasses
import logging
import os
import pickle
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from foremask.cli.exits import Usage, extra_missing
from foremask.cli.progress_bar import progress_bar
from foremask.errors import Failed, ForemaskError, Internal
from foremask.machine import hardware, process_setup
from foremask.machine.locks import locked
from foremask.options import Device, Runtime
from foremask.settings import Settings, read_settings

if TYPE_CHECKING:
    from foremask.cli.output_maker import Outcome, OutputMaker
    from foremask.cli.products import OutputJob

LOCAL: Final = "local"
AUTO: Final = "auto"
SPARE_TASKS: Final = 2  # what waits beyond the cores; an autoscaler starts nodes for it
STORE_BYTES: Final = 100_000_000  # of a local cluster: only reports pass through it
CONNECT_S: Final = 5.0
LOOK_S: Final = 0.5  # between two looks at the tasks
STOP_S: Final = 10.0  # for interrupted tasks to delete their hidden files
type _Finished = "tuple[OutputJob, Outcome]"


class _Caller(NamedTuple):
    """What the process of a task takes over from the command's."""

    folder: str
    version: str
    numerics: tuple[tuple[str, str], ...]
    cores: int


@dataclasses.dataclass(slots=True, kw_only=True)
class RayBatch:
    """Makes each output in a task. If a task's process or node dies, another one follows, once.

    ``on_begun`` is called with each job, and ``on_lost`` with each that begins again.
    """

    maker: "OutputMaker"
    jobs: Sequence["OutputJob"]
    cores: int
    on_begun: Callable[["OutputJob"], None]
    on_lost: Callable[["OutputJob"], None]
    _running: dict[Any, "OutputJob"] = dataclasses.field(default_factory=dict)
    _lost: set["OutputJob"] = dataclasses.field(default_factory=set)
    _ended: int = 0

    def ended(self) -> Generator[_Finished]:
        """Yield each job when it has ended; few wait in Ray at a time."""
        waiting = iter(self.jobs)
        try:
            while True:
                room = sum(each // self.cores for each in _nodes()) + SPARE_TASKS
                while len(self._running) < room and (job := next(waiting, None)) is not None:
                    self.on_begun(job)
                    try:
                        self.maker.check(job)
                    except ForemaskError as error:
                        self._ended += 1
                        yield job, error
                    else:
                        self._submit(job)
                if not self._running:
                    return
                yield from self._wait()
        finally:
            self._stop()

    def _submit(self, job: "OutputJob") -> None:
        import ray

        caller = _Caller(
            str(Path.cwd()),
            version("foremask"),
            tuple(process_setup.numerics(os.environ).items()),
            self.cores,
        )
        maker = _for_tasks(self.maker)
        if job in self._lost:  # the dead task may have written the output
            maker.asked = dataclasses.replace(maker.asked, force=True)
        task = ray.remote(_make).options(num_cpus=self.cores, max_retries=0, name="foremask")
        self._running[task.remote(caller, pickle.dumps(maker), pickle.dumps(job))] = job

    def _wait(self) -> Iterator[_Finished]:
        """Wait until a task has ended, and yield its job unless that begins again."""
        import ray

        total = len(self.jobs)
        label = self.maker.product.bar
        with progress_bar(label, "clips", shows=not self.maker.asked.quiet) as show:
            tasks: list[Any] = []
            while not tasks:
                show(self._ended, total)
                tasks, _ = ray.wait(list(self._running), timeout=LOOK_S)
        job = self._running.pop(tasks[0])
        outcome: Outcome
        try:
            outcome = pickle.loads(ray.get(tasks[0]))  # noqa: S301  # of our own task
        except ray.exceptions.RayTaskError as error:
            outcome = Internal(f"the task failed: {str(error).strip().splitlines()[-1]}")
        except ray.exceptions.RayError as error:
            if job not in self._lost:
                self._lost.add(job)
                self.on_lost(job)
                self._submit(job)
                return
            why = str(error).partition("\n")[0]
            outcome = Failed(f"its process or node died twice: {why}", reason="worker_crashed")
        self._ended += 1
        yield job, outcome

    def _stop(self) -> None:
        import ray

        for task in self._running:
            ray.cancel(task)  # as Ctrl-C does
        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running), timeout=STOP_S)


@contextmanager
def cluster(address: str, threads: int | None) -> Iterator[int]:
    """Connect to the cluster, and yield how many cores a task may use: by default, a node's.

    Raises Usage if there is no cluster, or none of its nodes is large enough.
    """
    if find_spec("ray") is None:
        raise extra_missing("--ray needs the package ray", "ray")
    _prepare_ray(address)
    import ray

    own: dict[str, Any] = {}
    if address == LOCAL:
        own = {"num_cpus": hardware.cores(), "object_store_memory": STORE_BYTES}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": process_setup.numerics(os.environ)},
            **own,
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        why = str(error).partition("\n")[0]
        raise Usage(f"--ray {address}: no cluster can be used: {why}") from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray's own would exit with another code
    # Ray prints what nodes report, 20 lines of a dead one's log, to standard output.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield _cores_of_a_task(threads)
    finally:
        ray.shutdown()


def _prepare_ray(address: str) -> None:
    """Set what Ray reads when it is imported. Raises Usage if nothing answers at ``address``."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on Linux: listen on loopback only
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif address != AUTO:
        host, _, port = address.rpartition(":")
        if not host or "/" in address or not port.isdecimal():
            raise Usage(f"--ray is auto, local or HOST:PORT, and not {address!r}")
        try:  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise Usage(f"--ray {address}: nothing answers there: {error}") from error


def _nodes() -> list[int]:
    """The cores of each node that may run tasks."""
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    cores = [int(each["Resources"].get("CPU", 0)) for each in nodes if each["Alive"]]
    return [each for each in cores if each]


def _cores_of_a_task(threads: int | None) -> int:
    nodes = _nodes()
    if threads is None:
        return min(nodes, default=1)
    if nodes and threads > max(nodes):
        raise Usage(f"--threads is {threads}, and no node has more than {max(nodes)} cores")
    return threads


def _for_tasks(maker: "OutputMaker") -> "OutputMaker":
    """Return a copy that is silent, uses processors only, and has no secrets in its settings."""
    device = maker.resources.device
    if device.runtime is Runtime.AUTO:
        device = Device(Runtime.CPU)
    ours = maker.settings
    return dataclasses.replace(
        maker,
        asked=dataclasses.replace(maker.asked, quiet=True),
        resources=dataclasses.replace(maker.resources, device=device),
        settings=Settings(
            network=ours.network, model_file=ours.model_file, allow_private=ours.allow_private
        ),
    )


def _make(caller: _Caller, maker: bytes, job: bytes) -> bytes:
    """Run in a task: return a pickled `Outcome`. Ray gives its process one task after the other."""
    outcome: Outcome
    try:
        _prepare(caller)
        outcome = _unpickled(maker).make(pickle.loads(job), "", lambda _: None)  # noqa: S301
    except ForemaskError as error:
        outcome = error
    except Exception as error:  # noqa: BLE001  # it ends one clip, as in a batch without Ray
        outcome = Internal(f"{type(error).__name__}: {error}")
    return pickle.dumps(outcome)


@cache
def _prepare(caller: _Caller) -> None:
    """Make this process as the command's was when it began: the bits of a mask depend on it."""
    here = version("foremask")
    node = socket.gethostname()
    if here != caller.version:
        raise Usage(f"node {node} has foremask {here}, and the command is {caller.version}")
    for name in process_setup.NUMERICS:  # Ray sets OMP_NUM_THREADS
        os.environ.pop(name, None)
    os.environ.update(caller.numerics)
    process_setup.prepare()
    try:
        os.chdir(caller.folder)
    except OSError as error:
        raise Usage(
            f"node {node} has no {caller.folder}: run the command in a folder that all nodes see"
        ) from error
    _take_cores(caller.cores)


_held = ExitStack()  # until the process ends


def _take_cores(number: int) -> None:
    """Restrict this process to cores that no other task on this machine has taken."""
    allowed = sorted(os.sched_getaffinity(0))
    folder = Path(tempfile.gettempdir(), f"foremask-cores-{os.getuid()}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        for first in range(0, len(allowed) - number + 1, number):
            if _held.enter_context(locked(folder / f"{allowed[first]}.lock", waits=False)):
                os.sched_setaffinity(0, allowed[first : first + number])
                return
    if number < len(allowed):  # others have them all: a process that waits for tasks, for example
        process_setup.limit_cores(number)


@cache
def _unpickled(pickled: bytes) -> "OutputMaker":
    maker: OutputMaker = pickle.loads(pickled)  # noqa: S301  # of the command
    ours = read_settings(os.environ)
    theirs = maker.settings
    maker.settings = msgspec.structs.replace(
        ours,
        network=theirs.network,
        model_file=theirs.model_file,
        allow_private=theirs.allow_private,
    )
    maker.resources = dataclasses.replace(maker.resources, tracker_dir=ours.model_dir)
    return maker
