"""Let schemathesis try everything that the OpenAPI document allows, and much that it does not.

``python -m benchmarks.endurance.contract URL TOKEN [SECONDS [EXAMPLES]]`` examines a running
service; give it a token with high limits
(`foremask token create --rate-per-minute 1000000 --concurrent 1000000`).
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# An answer that says no is right too: a made-up URL leads to no video, a made-up id to no job.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 304, 400, 403, 404, 413, 415, 416, 422, 429]
"""


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of it; ``report`` is what schemathesis printed."""

    passed: bool
    cases: int
    report: str


def examine(url: str, token: str, *, examples: int, seconds: int) -> Examined:
    """Every check of schemathesis, for at most about ``seconds``."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(CONFIG)
        config.flush()
        command = [
            str(Path(sys.executable).parent / "schemathesis"),
            f"--config-file={config.name}",
            *("run", f"{url}/openapi.json", "-H", f"api_token: {token}"),
            *("--checks", "all", "--phases", "coverage,fuzzing", "--continue-on-failure"),
            *("-n", str(examples), "--max-time", str(seconds)),
            *("--suppress-health-check", "all", "--request-timeout", "30", "--warnings", "off"),
            "--generation-deterministic",
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())  # noqa: S603
    counted = re.search(r"(\d+) generated", done.stdout)
    cases = int(counted[1]) if counted else 0
    return Examined(done.returncode == 0, cases, done.stdout + done.stderr)


def main() -> None:
    """Examine the service named on the command line."""
    url, token, *rest = sys.argv[1:]
    seconds = int(rest[0]) if rest else 600
    examples = int(rest[1]) if rest[1:] else 100
    examined = examine(url, token, examples=examples, seconds=seconds)
    print(examined.report)
    print(f"{examined.cases} cases, {'no failure' if examined.passed else 'FAILED'}")
    sys.exit(not examined.passed)


if __name__ == "__main__":
    main()
