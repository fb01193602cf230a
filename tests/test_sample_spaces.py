"""Feature spaces: which are chosen, what they are, and what is said where one is missing."""

import hashlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaekit
from vaekit.data import open_data
from vaekit.errors import UserError
from vaekit.evaluation.samples import choose
from vaekit.evaluation.samples import fashion as fashion_module
from vaekit.evaluation.samples.fashion import FashionClassifier, FashionSpace, load_classifier
from vaekit.evaluation.samples.inception import InceptionSpace, rgb
from vaekit.evaluation.samples.onnx import OnnxSpace
from vaekit.evaluation.samples.pyramid import PyramidSpace, pyramid

GREY = vaekit.DataSpec("pixels", (1, 28, 28), 256)


def test_default_spaces() -> None:
    assert isinstance(choose(None, GREY, "fashion-mnist"), FashionSpace) and isinstance(choose(None, GREY, "fashion-mnist:500"), FashionSpace)
    assert isinstance(choose(None, GREY, "mnist"), PyramidSpace)
    assert isinstance(choose(None, vaekit.DataSpec("pixels", (1, 32, 32), 256), "fashion-mnist"), PyramidSpace)
    space = PyramidSpace()
    assert choose(space, GREY, "fashion-mnist") is space
    with pytest.raises(UserError, match="'resnet' is not known: choose fashion, laplacian, inception, or"):
        choose("resnet", GREY, "mnist")


def test_fashion_space_is_the_layer_before_the_last() -> None:
    space, network = FashionSpace(), load_classifier()
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    found = space(images, GREY)
    assert found.shape == (3, 96) and bool((found >= 0).all()) and not network.training
    assert torch.allclose(network.head(found), network(images.float() / 255), atol=1e-4)
    # Bits and grey values on the scale from 0 to 1 are the same images.
    assert torch.allclose(space(images.double() / 255, GREY.binarized()), found, atol=1e-5)
    with pytest.raises(UserError, match="28 x 28"):
        space(images[:, :, :27], vaekit.DataSpec("pixels", (1, 27, 28), 256))


def test_fashion_weights_are_checked(tmp_path: Path) -> None:
    assert hashlib.sha256(fashion_module.WEIGHTS.read_bytes()).hexdigest() == fashion_module.SHA256
    assert fashion_module.WEIGHTS.stat().st_size < 1_000_000
    other = tmp_path / "other.safetensors"
    with pytest.raises(UserError, match="is missing: install vaekit again"):
        load_classifier(other)
    other.write_bytes(fashion_module.WEIGHTS.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="SHA-256"):
        load_classifier(other)


def test_folded_classifier_is_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without batch norm, as the script writes it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import fashion_classifier

    network = FashionClassifier(norm=True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(-1.5, 1.5)
            module.bias.data.uniform_(-1, 1)
    network(torch.rand(8, 1, 28, 28))  # running figures that are not those of the start
    x = torch.rand(4, 1, 28, 28)
    assert torch.allclose(fashion_classifier.folded(network)(x), network.eval()(x), atol=1e-4)


@pytest.mark.skipif(not Path("/usr/share/datasets/fashion-mnist").exists(), reason="Fashion-MNIST is not on this machine")
def test_classifier_knows_clothes() -> None:
    data = open_data("fashion-mnist")
    rows = data.index("test")[:500]
    network = load_classifier()
    with torch.no_grad():
        right = network(data.pixels(rows).float() / 255).argmax(1) == data.labels[rows]
    assert right.double().mean() > 0.9


def test_pyramid_space_is_the_pyramid() -> None:
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    found = PyramidSpace()(images, vaekit.DataSpec("pixels", (3, 64, 64), 256))
    assert found.shape == (2, 3 * (32 * 32 + 16 * 16 + 8 * 8))  # without the finest level
    levels = pyramid(images.float() / 255)
    assert torch.allclose(found, torch.cat([level.flatten(1) for level in levels[1:]], dim=1), atol=1e-5)


def test_inception_takes_eight_bit_colours() -> None:
    grey = rgb(torch.tensor([0.0, 1.0, 2.0]).view(1, 1, 1, 3), vaekit.DataSpec("pixels", (1, 1, 3), 3))
    assert grey.dtype == torch.uint8 and torch.equal(grey[0], torch.tensor([0, 128, 255], dtype=torch.uint8).expand(3, 1, 3))
    clear = rgb(torch.tensor([10.0, 20.0, 30.0, 0.0]).view(1, 4, 1, 1), vaekit.DataSpec("pixels", (4, 1, 1), 256))
    assert torch.equal(clear.flatten(), torch.full((3,), 255, dtype=torch.uint8))


def test_inception_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(UserError, match="needs torch-fidelity and torchvision, which are not installed"):
        InceptionSpace()

    class Offline:
        def __init__(self, *names: Any) -> None:
            raise OSError("no network")

    stand_in(monkeypatch, "torch_fidelity.feature_extractor_inceptionv3", FeatureExtractorInceptionV3=Offline)
    with pytest.raises(UserError, match=r"could not be fetched or read \(no network\): put weights-inception-.*pth into .*checkpoints"):
        InceptionSpace()


def test_inception_sees_all_images_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network in its place that takes what torch-fidelity's takes, [N, 3, H, W] of bytes, and gives what it gives, a tuple."""

    class Means:
        def __init__(self, name: str, features: list[str]) -> None:
            assert (name, features) == ("inception-v3-compat", ["2048"])
            self.training, self.device = True, ""

        def eval(self) -> "Means":
            self.training = False
            return self

        def to(self, device: str) -> "Means":
            self.device = device
            return self

        def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            assert x.dtype == torch.uint8 and x.shape[1:] == (3, 4, 4) and not self.training
            return (x.double().mean((2, 3)),)

    stand_in(monkeypatch, "torch_fidelity.feature_extractor_inceptionv3", FeatureExtractorInceptionV3=Means)
    images = torch.randint(0, 256, (120, 1, 4, 4), dtype=torch.uint8)
    space = choose("inception", GREY, "mnist", "cpu")
    assert isinstance(space, InceptionSpace) and space.network.device == "cpu"
    found = space(images, vaekit.DataSpec("pixels", (1, 4, 4), 256))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, images.float().mean((2, 3)).expand(-1, 3))


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """A module, and the packages that it lies in, in the place of one that is not installed."""
    parts = name.split(".")
    for i in range(len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[: i + 1]), types.ModuleType(parts[i]))
    vars(sys.modules[name]).update(contents)


class Session:
    """An ONNX session that gives twice the upper left pixel and the mean."""

    def __init__(self, shape: list[Any], kind: str = "tensor(float)", broken: bool = False) -> None:
        self.input = types.SimpleNamespace(name="images", shape=shape, type=kind)
        self.broken = broken

    def get_inputs(self) -> list[Any]:
        return [self.input]

    def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        x = feed["images"]
        assert x.dtype == np.float32 and (not isinstance(self.input.shape[0], int) or len(x) == self.input.shape[0])
        if self.broken:
            raise RuntimeError("no such\nkernel")
        return [np.stack([2 * x[:, 0, 0, 0], x.mean((1, 2, 3))], 1)[:, :, None]]


def onnx_space(monkeypatch: pytest.MonkeyPatch, folder: Path, session: Session) -> OnnxSpace:
    path = folder / "net.onnx"
    path.write_bytes(b"a network")
    runtime = types.ModuleType("onnxruntime")
    runtime.InferenceSession = lambda content, providers: session  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    found = choose(str(path), GREY, "mnist")
    assert isinstance(found, OnnxSpace)
    return found


@pytest.mark.parametrize("shape", [["N", 1, 28, 28], [3, 1, 28, 28], [None, None, "height", "width"]])
def test_onnx_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shape: list[Any]) -> None:
    """Any size of batch, and a network of one size alone; the name tells one file from another."""
    space = onnx_space(monkeypatch, tmp_path, Session(shape))
    assert space.name == f"net.onnx (SHA-256 {hashlib.sha256(b'a network').hexdigest()[:8]})"
    images = torch.randint(0, 256, (7, 1, 28, 28), dtype=torch.uint8)
    x = images.float() / 255
    assert torch.allclose(space(images, GREY), torch.stack([2 * x[:, 0, 0, 0], x.mean((1, 2, 3))], 1), atol=1e-6)


def test_onnx_runtime_itself(tmp_path: Path) -> None:
    """A real file, by the real onnxruntime: means over the rows and over the columns of each image."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    images, axes = helper.make_tensor_value_info("images", kind, ["N", 1, 28, 28]), helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [1, 2])
    node = helper.make_node("ReduceMean", ["images", "axes"], ["features"], keepdims=0)
    graph = helper.make_graph([node], "means", [images], [helper.make_tensor_value_info("features", kind, ["N", 28])], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "means.onnx"))
    x = torch.randint(0, 256, (7, 1, 28, 28), dtype=torch.uint8)
    torch.testing.assert_close(choose(str(tmp_path / "means.onnx"), GREY, "mnist")(x, GREY), x.float().mean((1, 2)) / 255)


def test_onnx_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = torch.zeros(2, 1, 28, 28)
    with pytest.raises(UserError, match=r"takes images of 3 x 28 x 28 .*, and these are 1 x 28 x 28"):
        onnx_space(monkeypatch, tmp_path, Session(["N", 3, 28, 28]))(images, GREY)
    with pytest.raises(UserError, match=r"is tensor\(uint8\)"):
        onnx_space(monkeypatch, tmp_path, Session(["N", 1, 28, 28], "tensor(uint8)"))
    with pytest.raises(UserError, match="is N x 784"):
        onnx_space(monkeypatch, tmp_path, Session(["N", 784]))
    with pytest.raises(UserError, match="cannot run on these images: no such kernel"):
        onnx_space(monkeypatch, tmp_path, Session(["N", 1, 28, 28], broken=True))(images, GREY)
    with pytest.raises(UserError, match="There is no feature network"):
        choose(str(tmp_path / "none.onnx"), GREY, "mnist")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="needs onnxruntime, which is not installed"):
        choose(str(tmp_path / "net.onnx"), GREY, "mnist")
