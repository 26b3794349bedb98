"""Nobody hears that foremask is used: the runtimes that call their makers are kept from it."""

import subprocess
import sys

CODE = """
import os, sys
sys.addaudithook(lambda event, args: event == "socket.connect" and os._exit(9))
import foremask.vision.network.session
assert sys.modules["openvino_telemetry"] is None
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
assert "onnxruntime" not in sys.modules
"""


def test_importing_the_runtimes_calls_nobody() -> None:
    """Both switches are set when the session module is there, before ONNX Runtime could be."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
