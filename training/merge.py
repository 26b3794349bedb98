"""Write IS-Net with the adapters of the network for natural pictures added to its weights.

    python -m training.merge WEIGHTS DELTA SHARE TARGET.onnx

An adapter is a convolution of low rank, so it adds to a convolution's weights: the file that is
written runs as IS-Net does, and costs the same. What is added is multiplied by SHARE: with 0 the
network is IS-Net, with 1 the trained one.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from training.isnet import Convolution, layer_name, read_weights
from training.natural import load
from training.natural_network import NaturalNetwork


def main() -> None:
    weights_file, delta = (Path(each) for each in sys.argv[1:3])
    share = float(sys.argv[3])
    target = Path(sys.argv[4])
    network = NaturalNetwork(weights_file)
    load(delta, network)
    names = {
        weight.numpy().tobytes(): name for name, (weight, _) in read_weights(weights_file).items()
    }
    model = onnx.load(weights_file)
    nodes = {layer_name(each.name): each for each in model.graph.node if each.op_type == "Conv"}
    constants = {each.name: each for each in model.graph.initializer}
    for layer in network.modules():
        if not isinstance(layer, Convolution) or layer.down is None or layer.up is None:
            continue
        node = nodes[names[layer.weight.detach().numpy().tobytes()]]
        down, up = (each.detach().numpy() for each in (layer.down, layer.up))
        change = np.einsum("or,rchw->ochw", up[:, :, 0, 0], down)
        add(constants[node.input[1]], share * change)
        assert layer.bias is not None
        bias = constants[node.input[2]]
        add(bias, share * (layer.bias.detach().numpy() - numpy_helper.to_array(bias)))
    onnx.save(model, target)


def add(constant: onnx.TensorProto, values: np.ndarray) -> None:
    before = numpy_helper.to_array(constant)
    after = before.astype(np.float32) + values
    constant.CopyFrom(numpy_helper.from_array(after.astype(before.dtype), constant.name))


if __name__ == "__main__":
    main()
