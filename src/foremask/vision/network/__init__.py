"""Networks; telemetry of OpenVINO and ONNX Runtime is off before a module here can load them."""

import os
import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # OpenVINO then does without it
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
