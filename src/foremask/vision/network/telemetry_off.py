"""Turns off the telemetry of OpenVINO and ONNX Runtime: import it before either."""

import os
import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # OpenVINO then does without it
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
