"""Runs neural networks, without the telemetry of OpenVINO and ONNX Runtime."""

import os
import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # no telemetry
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
