"""IS-Net up to a quarter of its input's size: the pulled weights, frozen, and adapters that train.

Every convolution behind stage 2 has an adapter of low rank: a 3x3 convolution to RANK channels and
a 1x1 convolution from them, which starts at zero. Layer names follow the pulled ONNX file.
"""

from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import numpy_helper
from torch import Tensor, nn

RANK = 8
Weights = Mapping[str, tuple[Tensor, Tensor]]


def read_weights(path: Path) -> Weights:
    """Weight and bias of each convolution of the pulled file, in float32, by the layer's name."""
    graph = onnx.load(path).graph
    constants = {each.name: each for each in graph.initializer}
    weights = {}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        arrays = [numpy_helper.to_array(constants[name]) for name in node.input[1:3]]
        weight, bias = (torch.from_numpy(array.astype("float32")) for array in arrays)
        weights[layer_name(node.name)] = (weight, bias)
    return weights


def layer_name(node_name: str) -> str:
    """`/stage3/rebnconv1d/conv_s1/Conv` is stage3.1d, and `/side2/Conv` is side2."""
    parts = node_name.strip("/").split("/")
    if len(parts) == 2:
        return parts[0]
    return f"{parts[0]}.{parts[1].removeprefix('rebnconv')}"


class Convolution(nn.Module):
    """A pulled convolution, its adapter where it has one, and ReLU."""

    def __init__(
        self,
        weights: Weights,
        name: str,
        *,
        dilation: int = 1,
        stride: int = 1,
        adapted: bool,
        relu: bool = True,
    ) -> None:
        super().__init__()
        weight, bias = weights[name]
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.pulled_bias = nn.Parameter(bias, requires_grad=False)
        self.bias: nn.Parameter | None = None
        self.dilation = dilation
        self.stride = stride
        self.padding = dilation * (weight.shape[-1] // 2)
        self.relu = relu
        self.down: nn.Parameter | None = None
        self.up: nn.Parameter | None = None
        if adapted:
            channels_out, channels_in, height, width = weight.shape
            down = torch.empty(RANK, channels_in, height, width)
            nn.init.normal_(down, std=(channels_in * height * width) ** -0.5)
            self.down = nn.Parameter(down)
            self.up = nn.Parameter(torch.zeros(channels_out, RANK, 1, 1))
            self.bias = nn.Parameter(bias.clone())

    def forward(self, x: Tensor, *, adapt: bool) -> Tensor:
        shape = (self.stride, self.padding, self.dilation)
        if adapt and self.down is not None and self.up is not None:
            # The bias trains, so it stands with the small convolution: oneDNN computes the gradient
            # of a bias together with that of its weights, which doubles the cost of a frozen one.
            low = F.conv2d(x, self.down, None, *shape)
            y = F.conv2d(x, self.weight, None, *shape) + F.conv2d(low, self.up, self.bias)
        else:
            y = F.conv2d(x, self.weight, self.pulled_bias, *shape)
        return F.relu(y, inplace=True) if self.relu else y


def enlarged(x: Tensor) -> Tensor:
    """Twofold, linearly, as the network does it."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def halved(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, 2, ceil_mode=True)


class UNetStage(nn.Module):
    """Stages 1 to 4: a small U-net of `depth` convolutions with a residual sum."""

    def __init__(self, weights: Weights, name: str, depth: int, *, adapted: bool) -> None:
        super().__init__()
        self.depth = depth

        def convolution(part: str, dilation: int = 1) -> Convolution:
            return Convolution(weights, f"{name}.{part}", dilation=dilation, adapted=adapted)

        self.entry = convolution("in")
        downwards = [convolution(str(i)) for i in range(1, depth)]
        upwards = [convolution(f"{i}d") for i in range(depth - 1, 0, -1)]
        self.downwards = nn.ModuleList(downwards)
        self.bottom = convolution(str(depth), dilation=2)
        self.upwards = nn.ModuleList(upwards)

    def forward(self, x: Tensor, *, adapt: bool) -> Tensor:
        entry = self.entry(x, adapt=adapt)
        x = entry
        skips = []
        for i, layer in enumerate(self.downwards):
            if i > 0:
                x = halved(x)
            x = layer(x, adapt=adapt)
            skips.append(x)
        x = self.bottom(x, adapt=adapt)
        for i, layer in enumerate(self.upwards):
            if i > 0:
                x = enlarged(x)
            x = layer(torch.cat([x, skips.pop()], 1), adapt=adapt)
        return x + entry


class DilatedStage(nn.Module):
    """Stages 5 and 6: dilated convolutions at one size with a residual sum."""

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()

        def convolution(part: str, dilation: int) -> Convolution:
            return Convolution(weights, f"{name}.{part}", dilation=dilation, adapted=True)

        self.entry = convolution("in", 1)
        self.first = convolution("1", 1)
        self.second = convolution("2", 2)
        self.third = convolution("3", 4)
        self.bottom = convolution("4", 8)
        self.third_up = convolution("3d", 4)
        self.second_up = convolution("2d", 2)
        self.first_up = convolution("1d", 1)

    def forward(self, x: Tensor, *, adapt: bool) -> Tensor:
        entry = self.entry(x, adapt=adapt)
        first = self.first(entry, adapt=adapt)
        second = self.second(first, adapt=adapt)
        third = self.third(second, adapt=adapt)
        x = self.bottom(third, adapt=adapt)
        x = self.third_up(torch.cat([x, third], 1), adapt=adapt)
        x = self.second_up(torch.cat([x, second], 1), adapt=adapt)
        x = self.first_up(torch.cat([x, first], 1), adapt=adapt)
        return x + entry


class Encoder(nn.Module):
    """Stages 1 and 2 as pulled: run once for a picture, whatever the prompts."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.entry = Convolution(weights, "conv_in", stride=2, adapted=False, relu=False)
        self.stage1 = UNetStage(weights, "stage1", 7, adapted=False)
        self.stage2 = UNetStage(weights, "stage2", 6, adapted=False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), RGB in -0.5 to 0.5, sides multiples of 64; (B, 128, H / 4, W / 4)."""
        x = self.stage1(self.entry(image, adapt=False), adapt=False)
        return self.stage2(halved(x), adapt=False)


class Decoder(nn.Module):
    """Stages 3 to 6 and back to stage 2d; `additions` go to the outputs of stages 2 to 5."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.stage3 = UNetStage(weights, "stage3", 5, adapted=True)
        self.stage4 = UNetStage(weights, "stage4", 4, adapted=True)
        self.stage5 = DilatedStage(weights, "stage5")
        self.stage6 = DilatedStage(weights, "stage6")
        self.stage5d = DilatedStage(weights, "stage5d")
        self.stage4d = UNetStage(weights, "stage4d", 4, adapted=True)
        self.stage3d = UNetStage(weights, "stage3d", 5, adapted=True)
        self.stage2d = UNetStage(weights, "stage2d", 6, adapted=True)
        self.side2 = Convolution(weights, "side2", adapted=False, relu=False)

    def forward(self, stage2: Tensor, additions: list[Tensor] | None) -> Tensor:
        """Features of 64 channels at a quarter of the input's size; without additions IS-Net's."""
        adapt = additions is not None

        def prompted(x: Tensor, level: int) -> Tensor:
            return x if additions is None else x + additions[level]

        stage2 = prompted(stage2, 0)
        stage3 = prompted(self.stage3(halved(stage2), adapt=adapt), 1)
        stage4 = prompted(self.stage4(halved(stage3), adapt=adapt), 2)
        stage5 = prompted(self.stage5(halved(stage4), adapt=adapt), 3)
        x = self.stage6(halved(stage5), adapt=adapt)
        x = self.stage5d(torch.cat([enlarged(x), stage5], 1), adapt=adapt)
        x = self.stage4d(torch.cat([enlarged(x), stage4], 1), adapt=adapt)
        x = self.stage3d(torch.cat([enlarged(x), stage3], 1), adapt=adapt)
        return self.stage2d(torch.cat([enlarged(x), stage2], 1), adapt=adapt)
