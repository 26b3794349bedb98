"""Loads networks of Hugging Face's transformers from folders here, never from the network."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from foremask.errors import DeviceUnavailable, ModelUnavailable
from foremask.options import Device, Runtime
from foremask.types import Rgb

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION: Final = (0.229, 0.224, 0.225)
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# torch makes a directory for compiled code, which the service's confined child may not: name one.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())


def torch_device(device: Device) -> "torch.device":
    """CUDA if it is asked for, or if it is there and any device may be used; else the CPU."""
    import torch

    if device.runtime is Runtime.AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.runtime is not Runtime.CUDA:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceUnavailable(f"torch finds no CUDA device for {device}", param="device")
    return torch.device("cuda", int(device.unit or 0))


def loaded_model(class_name: str, folder: Path, device: "torch.device", **config: object) -> Any:  # noqa: ANN401
    """Load a network's weights, which are safetensors: no file here can run code of its own.

    ``config`` replaces values of the folder's config.json. Raises ModelUnavailable.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        kind = getattr(transformers, class_name)
        model, found = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **config,
        )
    except AttributeError as error:
        raise ModelUnavailable(
            f"transformers {transformers.__version__} has no {class_name}:"
            " `pip install -U transformers` brings one that has"
        ) from error
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ModelUnavailable(f"{folder} cannot be loaded: {first_line(error)}") from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise ModelUnavailable(
            f"{folder} has not all weights of {class_name}: {len(missing)} are missing, such as"
            f" {missing[0]}"
        )
    return model.to(device).eval()


def normalised(rgb: Rgb, mean: Sequence[float], deviation: Sequence[float]) -> "torch.Tensor":
    """A picture as a network's input: (3, H, W) float32."""
    import torch

    channels = np.asarray(mean, np.float32), np.asarray(deviation, np.float32)
    values = (rgb * np.float32(1 / 255) - channels[0]) / channels[1]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), np.float32))


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
