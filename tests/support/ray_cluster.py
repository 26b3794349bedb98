"""A real Ray cluster on loopback: nodes of one core each, in a process of its own.

    python tests/support/ray_cluster.py 2

It prints the address. A line on standard input kills the node that joined last, with its tasks;
at the end of the input all of it ends.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE, Popen
from typing import Final

STORE_BYTES: Final = 100_000_000
ENVIRON: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray then listens on loopback only
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "of-the-tests-" + "0" * 32,
}


@dataclass(frozen=True)
class RayCluster:
    process: Popen[str]
    address: str

    def kill_node(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("kill\n")
        self.process.stdin.flush()


@contextmanager
def ray_cluster(environ: Mapping[str, str], nodes: int = 2) -> Iterator[RayCluster]:
    command = [sys.executable, __file__, str(nodes)]
    with Popen(command, env=dict(environ) | ENVIRON, stdin=PIPE, stdout=PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "no cluster: see above"
        yield RayCluster(process, address)  # the end closes its standard input, and waits


def _main(nodes: int) -> None:
    from ray.cluster_utils import Cluster

    first = {"include_dashboard": False, "num_cpus": 1, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=first)
    others = [
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES) for _ in range(nodes - 1)
    ]
    print(cluster.address, flush=True)  # noqa: T201
    for _ in sys.stdin:
        cluster.remove_node(others.pop(), allow_graceful=False)
    cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    os.environ.update(ENVIRON)
    _main(int(sys.argv[1]))
