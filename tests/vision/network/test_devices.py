import threading
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest

from foremask.errors import DeviceUnavailable, FieldInvalid, ModelUnavailable
from foremask.options import Device, Quality, Runtime
from foremask.pipeline.network_masks import mask_images
from foremask.pipeline.threads import BoundedQueue, prefetch
from foremask.types import Image
from foremask.vision.image import ArrayImage
from foremask.vision.network.devices import devices, network_at
from foremask.vision.network.network_protocol import InputSize, Network, NetworkOutput
from foremask.vision.network.onnx_session import PICTURE, OnnxSession, adapted
from foremask.vision.network.opinions import View, ask
from foremask.vision.network.session import Precision, Session, cpu_float
from foremask.vision.stopping import StoppedError
from foremask.vision.temporal.tier import TIERS
from foremask.weights.catalogue import ISNET, model_path
from tests.pipeline.stages.test_network_masks import moving_disc
from tests.support import networks
from tests.support.networks import Drawn
from tests.support.programs import fresh


@pytest.fixture
def redness(tmp_path: Path) -> Path:
    return networks.redness(tmp_path)


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("auto", Device()),
        ("cpu", Device(Runtime.CPU)),
        ("openvino:cpu", Device(Runtime.CPU)),
        ("OpenVINO:gpu.1", Device(Runtime.OPENVINO, "GPU.1")),
        ("openvino:AUTO", Device(Runtime.OPENVINO, "AUTO")),
        ("onnxruntime", Device(Runtime.ONNXRUNTIME)),
        ("cuda:1", Device(Runtime.CUDA, "1")),
    ],
)
def test_a_device_is_a_runtime_and_a_unit(text: str, device: Device) -> None:
    assert Device.parse(text) == device
    assert Device.parse(str(device)) == device


@pytest.mark.parametrize(
    "text", ["", "gpu", "cuda:x", "cuda:", "cpu:0", "openvino:TPU", "auto:0", "openv\u0131no"]
)
def test_what_is_no_device_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(FieldInvalid, match=r"cuda\[:N\]"):
        Device.parse(text)


@pytest.mark.parametrize("text", ["cuda:1", "openvino:NPU"])
def test_a_device_that_is_not_here_is_said_with_those_that_are(redness: Path, text: str) -> None:
    if Device.parse(text.removesuffix(":1")) in devices():
        pytest.skip(f"this machine has {text}")
    with pytest.raises(DeviceUnavailable, match=rf"{text}.*Here are: cpu, .*onnxruntime"):
        network_at(redness, Device.parse(text))


def test_a_network_file_is_opened_once_though_it_is_asked_for_twice(redness: Path) -> None:
    first = network_at(redness, Device())
    assert network_at(redness, Device()) is first


def test_openvino_chooses_and_the_report_says_what(redness: Path) -> None:
    network = network_at(redness, Device.parse("openvino:AUTO"))
    assert network.runtime.startswith("openvino ")
    assert network.runtime.split()[1] in {"CPU", "GPU", "NPU"}


@pytest.mark.weights
def test_isnet_takes_pictures_of_any_size_in_batches_in_16_bits_as_in_32() -> None:
    import onnxruntime

    pictures = np.random.default_rng(1).integers(0, 256, (2, 64, 128, 3), np.uint8)
    features = {}
    for precision in (Precision.F16, Precision.F32):
        network = adapted(onnx.load(model_path()), ISNET.spec, precision).SerializeToString()
        session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
        mask, *features[precision] = session.run(None, {PICTURE: pictures})
        assert mask.shape == (2, 1, 64, 128)
        (alone, *_) = session.run(None, {PICTURE: pictures[1:]})
        np.testing.assert_allclose(mask[1:], alone, atol=0.01)
    for half, whole in zip(*features.values(), strict=True):
        assert half.dtype == np.float32
        np.testing.assert_allclose(half, whole, atol=0.05 * whole.max())
    shapes = [(2, 8, 16, 256), (2, 4, 8, 512), (2, 2, 4, 512)]
    assert [each.shape for each in features[Precision.F16]] == shapes


class Observed:
    """Passes on a network's answers, and keeps the shapes of the last features."""

    def __init__(self, network: Network) -> None:
        self.runtime = network.runtime
        self.any_size = network.any_size
        self.shapes: list[tuple[int, ...]] = []
        self._network = network

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        output = self._network.infer(image, size)
        if output.features:
            self.shapes = [each.shape for each in output.features]
        return output


@pytest.mark.weights
def test_all_runtimes_make_the_same_masks_with_the_same_memory() -> None:
    path = model_path()
    ((image, truth),) = moving_disc(1)
    sessions: list[Network] = [
        networks.reduced_isnet(Precision.INT8),
        networks.reduced_isnet(Precision(cpu_float())),
        OnnxSession(path, Device(Runtime.ONNXRUNTIME)),
    ]
    masks = {"drawn": truth}
    for session in map(Observed, sessions):
        (alpha,) = mask_images([image], session, TIERS[Quality.FAST])
        assert session.shapes == [(128, 128, 256), (64, 64, 512), (32, 32, 512)]
        masks[session.runtime] = alpha > 0.5
    for one, other in combinations(masks, 2):
        both = (masks[one] & masks[other]).sum()
        either = (masks[one] | masks[other]).sum()
        assert both / either >= 0.97, (one, other)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_network_of_ones_own_runs_as_its_side_car_says(redness: Path, runtime: str) -> None:
    device = Device(Runtime.ONNXRUNTIME)
    session = Session(redness) if runtime == "openvino" else OnnxSession(redness, device)
    output = session.infer(networks.half_red())
    assert output.alpha.shape == (networks.SIZE_PX, networks.SIZE_PX)
    assert output.alpha[:, 40:].min() > 0.99
    np.testing.assert_allclose(output.alpha[:, :24], 0.5, atol=0.02)
    assert output.features == ()
    assert session.runtime.startswith(runtime)


def test_without_a_side_car_the_first_output_is_the_mask(redness: Path) -> None:
    """IS-Net's own is not its first; a network that has no output of that name still runs."""
    redness.with_name("redness.onnx.json").unlink()
    assert Session(redness).infer(networks.half_red()).alpha[:, -1].max() == 0  # "against" red


def test_a_network_that_is_no_isnet_never_runs_in_8_bits(redness: Path) -> None:
    assert Session(redness).precision in {Precision.BF16, Precision.F32}


@pytest.mark.parametrize("fault", networks.FAULTS)
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_an_answer_that_is_no_mask_is_an_error_that_names_the_output(
    tmp_path: Path, runtime: str, fault: str
) -> None:
    path, device = networks.faulty(tmp_path, fault), Device(Runtime.ONNXRUNTIME)
    session = Session(path) if runtime == "openvino" else OnnxSession(path, device)
    with pytest.raises(ModelUnavailable, match=r"faulty\.onnx.*output answer"):
        session.infer(networks.half_red())


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(ModelUnavailable, match=r"broken\.onnx"):
        Session(broken)


NOBODY_IS_CALLED = """
import os, sys
sys.addaudithook(lambda event, args: event == "socket.connect" and os._exit(9))
import foremask.vision.network.session
assert sys.modules["openvino_telemetry"] is None
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
assert "onnxruntime" not in sys.modules
"""


@pytest.mark.slow
def test_importing_the_runtimes_calls_nobody() -> None:
    assert fresh(NOBODY_IS_CALLED).stderr == ""


ITS_MAKER_GETS_A_SIGNAL = """
import signal, sys, threading
from pathlib import Path
from foremask.vision.network.session import Session
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
networks = [Session(Path(sys.argv[1]))]
ended_elsewhere = threading.Thread(target=networks.clear)
ended_elsewhere.start()
ended_elsewhere.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_ctrl_c_after_another_thread_ended_the_network_is_no_crash(redness: Path) -> None:
    assert fresh(ITS_MAKER_GETS_A_SIGNAL, redness).stdout == "interrupted\n"


@pytest.mark.weights
def test_an_inference_that_is_no_longer_wanted_ends_and_the_next_is_right() -> None:
    network = network_at(model_path(), Device())
    before = network.infer(networks.half_red())
    stop = threading.Event()
    heard: list[str] = []

    def answers() -> Iterator[NetworkOutput]:
        stop.set()
        try:
            yield network.infer(networks.half_red())
        except StoppedError:
            heard.append("stopped")
            raise

    with prefetch(answers(), BoundedQueue(1), "infer", stop=stop):
        pass
    assert heard == ["stopped"]
    after = network.infer(networks.half_red())
    np.testing.assert_array_equal(after.alpha, before.alpha)


# What is asked of a network

GRID = (64, 36)
NEVER = 1.0  # above every uncertainty


class RedNetwork(Drawn):
    any_size = True


def red_on_the_right() -> ArrayImage:
    rgb = np.full((180, 320, 3), 90, np.uint8)
    rgb[60:120, 220:280] = (220, 30, 30)
    return ArrayImage(rgb)


def test_every_view_finds_the_thing_where_it_is() -> None:
    network = RedNetwork()
    opinions = ask(network, red_on_the_right(), GRID, mirrored_above=-1, cropped_above=-1)
    assert set(opinions) == set(View)
    truth = np.zeros((36, 64), np.bool_)
    truth[12:24, 44:56] = True
    for mask in opinions.values():
        assert mask.shape == (36, 64)
        assert ((mask > 127) != truth).sum() <= 24  # less than half of the outline


@pytest.mark.parametrize(
    ("mirrored_above", "cropped_above", "sizes"),
    [
        (NEVER, NEVER, [None]),
        (NEVER, -1, [None, (768, 768)]),
        (-1, NEVER, [None, None]),
        (-1, -1, [None, None, (768, 768)]),
    ],
)
def test_more_is_asked_only_where_the_first_answer_is_uncertain_and_features_do_not_wait_for_it(
    mirrored_above: float, cropped_above: float, sizes: list[InputSize | None]
) -> None:
    network = RedNetwork()
    asked_by_then: list[int] = []

    def learn(_: object) -> None:
        asked_by_then.append(len(network.sizes))

    ask(network, red_on_the_right(), GRID, mirrored_above, cropped_above, learn)
    assert network.sizes == sizes
    assert asked_by_then == [1]
