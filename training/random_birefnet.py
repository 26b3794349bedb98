"""Write BiRefNet's real network with random weights as ONNX, for `benchmarks.speed.networks`.

    git clone https://github.com/ZhengPeng7/BiRefNet && git -C BiRefNet checkout 25cb9309bacf
    pip install torch torchvision timm einops onnx deform-conv2d-onnx-exporter
    python training/random_birefnet.py BiRefNet swin_v1_t birefnet-lite.onnx [--native]

Time and memory do not depend on the weights. ``swin_v1_t`` is BiRefNet-lite, and ``swin_v1_l`` is
BiRefNet. The published files have deformable convolutions written out in many operators; with
``--native``, each is one DeformConv. What the sources import only for training is left out.
"""

import argparse
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.onnx.symbolic_helper import parse_args

SIZE_PX = 1024
BACKBONES = {"swin_v1_l": 3, "swin_v1_t": 6}  # where the sources' list of backbones has them
Value = Any  # of the graph that is exported: torch ships no types for it
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class NotAHub:
    def __init_subclass__(cls, **_: object) -> None:
        """Take the arguments of Hugging Face's mixin, and do nothing with them."""


def module(name: str, **contents: object) -> None:
    made = types.ModuleType(name)
    made.__dict__.update(contents)
    sys.modules[name] = made


def network(sources: Path, backbone: str) -> torch.nn.Module:
    sys.path.insert(0, str(sources))
    os.chdir(sources)  # config.py reads a file train.sh, here or one folder up
    module("huggingface_hub", PyTorchModelHubMixin=NotAHub)
    module("kornia")
    module("kornia.filters", laplacian=None)
    module("dataset", class_labels_TR_sorted=[])
    text = (sources / "config.py").read_text()
    changes = {
        "][3]\n        self.freeze_bb": f"][{BACKBONES[backbone]}]\n        self.freeze_bb",
        "self.SDPA_enabled = True": "self.SDPA_enabled = False",  # ONNX has no such operator
    }
    for old, new in changes.items():
        assert old in text, "these are not the sources of the commit above"
        text = text.replace(old, new)
    config: dict[str, Any] = {}
    exec(compile(text, "config.py", "exec"), config)  # noqa: S102  a checkout that the user chose
    module("config", **config)
    from models.birefnet import BiRefNet

    torch.manual_seed(0)
    return BiRefNet(bb_pretrained=False).eval()


def use_fixed_sizes() -> None:
    """Make the sizes of enlarged planes constants of the graph: the exporter must know them."""
    interpolate = functional.interpolate

    def interpolated(picture: Tensor, size: Value = None, **more: Value) -> Tensor:
        if size is not None:
            size = [int(each) for each in size]
        return interpolate(picture, size=size, **more)

    functional.interpolate = interpolated


@parse_args(*"vvvvv", *"iiiiiiii", "b")
def deform_conv(
    graph: Value, picture: Value, weights: Value, offset: Value, mask: Value, bias: Value,
    stride_y: int, stride_x: int, pad_y: int, pad_x: int, dilation_y: int, dilation_x: int,
    groups: int, offset_groups: int, _uses_mask: bool,
) -> Value:  # fmt: skip
    """torchvision's operator as ONNX's."""
    return graph.op(
        "DeformConv", picture, weights, offset, bias, mask,
        kernel_shape_i=weights.type().sizes()[2:], strides_i=[stride_y, stride_x],
        pads_i=[pad_y, pad_x, pad_y, pad_x], dilations_i=[dilation_y, dilation_x],
        group_i=groups, offset_group_i=offset_groups,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("sources", type=Path)
    parser.add_argument("backbone", choices=BACKBONES)
    parser.add_argument("target", type=Path)
    parser.add_argument("--native", action="store_true")
    asked = parser.parse_args()
    target = asked.target.absolute()
    made = network(asked.sources.absolute(), asked.backbone)
    use_fixed_sizes()
    if asked.native:
        torch.onnx.register_custom_op_symbolic("torchvision::deform_conv2d", deform_conv, 19)
    else:
        import deform_conv2d_onnx_exporter as exporter
        from torch.onnx import JitScalarType

        exporter.JitScalarType = JitScalarType  # it looks where older versions of PyTorch have it
        exporter.register_deform_conv2d_onnx_op()
    picture = torch.randn(1, 3, SIZE_PX, SIZE_PX)
    with torch.no_grad():
        torch.onnx.export(
            made, (picture,), str(target), dynamo=False,
            opset_version=19 if asked.native else 17,
            input_names=["input_image"], output_names=["output_image"],
        )  # fmt: skip
    side_car = target.with_name(target.name + ".json")
    side_car.write_text(json.dumps(IMAGENET | {"size_px": SIZE_PX, "sigmoid": True}))
    print(f"{sum(each.numel() for each in made.parameters()) / 1e6:.1f} million parameters")


if __name__ == "__main__":
    main()
