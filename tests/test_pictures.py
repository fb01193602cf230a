"""Pictures: right colours, right places, whole files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from vaekit import pictures
from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.latents.priors import MixturePrior
from vaekit.likelihoods.gaussian import Gaussian
from vaekit.model import VAE
from vaekit.networks.base import Decoder, Encoder
from vaekit.networks.condition import AttributeCondition, ClassCondition


def spec(*shape: int, levels: int | None = 256, **stats: tuple[float, ...]) -> DataSpec:
    return DataSpec("values" if levels is None else "pixels", shape, levels, **stats)  # type: ignore[arg-type]


def array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture)


def tile(images: Tensor, data: DataSpec) -> np.ndarray:
    """The pixels of a grid of one image, not enlarged."""
    return array(pictures.grid(images, data, scale=1, padding=0))


def test_values_beyond_the_range_are_clipped_and_not_wrapped() -> None:
    x = torch.tensor([-3.0, 0.0, 254.6, 255.0, 256.0, 700.0, float("nan"), float("inf")]).view(1, 1, 2, 4)
    assert tile(x, spec(1, 2, 4))[..., 0].flatten().tolist() == [0, 0, 255, 255, 255, 255, 0, 255]


@pytest.mark.parametrize(("levels", "top"), [(2, 1), (16, 15), (256, 255), (65536, 65535)])
def test_the_highest_level_is_white(levels: int, top: int) -> None:
    x = torch.tensor([0, top]).view(1, 1, 1, 2)
    assert tile(x, spec(1, 1, 2, levels=levels))[0, :, 0].tolist() == [0, 255]


def test_unsigned_sixteen_bits() -> None:
    x = torch.from_numpy(np.array([[[[0, 257, 65535]]]], np.uint16))
    assert tile(x, spec(1, 1, 3, levels=65536))[0, :, 1].tolist() == [0, 1, 255]


def test_floats_span_three_standard_deviations_or_their_own_range() -> None:
    x = torch.tensor([-100.0, 4.0, 10.0, 16.0, 100.0]).view(1, 1, 1, 5)
    assert tile(x, spec(1, 1, 5, levels=None, mean=(10.0,), std=(2.0,)))[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert tile(x, spec(1, 1, 5, levels=None))[0, [0, -1], 0].tolist() == [0, 255]
    assert tile(torch.full((1, 1, 1, 5), 7.0), spec(1, 1, 5, levels=None)).max() == 0


def test_channels() -> None:
    def colour(*values: float, levels: int | None = 256) -> list[int]:
        data = spec(len(values), 1, 1, levels=levels, **({} if levels else {"mean": (0.5,) * len(values), "std": (1 / 6,) * len(values)}))
        return tile(torch.tensor(values).view(1, -1, 1, 1), data)[0, 0].tolist()

    assert colour(80) == [80, 80, 80]
    assert colour(80, 255) == [80] * 3 and colour(80, 0) == [255] * 3 and colour(0, 51) == [204] * 3
    assert colour(10, 20, 30) == [10, 20, 30]
    assert colour(10, 20, 30, 255) == [10, 20, 30] and colour(10, 20, 30, 0) == [255] * 3
    assert colour(10, 20, 30, 40, 50) == [10, 20, 30]
    assert colour(0.0, 1.0, levels=None) == [0] * 3
    assert colour(0.0, 1.0, 0.0, 0.5, levels=None) == [0, 255, 0]


def test_tiles_stand_in_rows_with_thin_gaps() -> None:
    x = torch.arange(1, 6).view(5, 1, 1, 1).expand(5, 1, 2, 3).to(torch.uint8) * 10
    picture = array(pictures.grid(x, spec(1, 2, 3), columns=3, scale=2, padding=1))[..., 0]
    assert picture.shape == (2 * 4 + 3, 3 * 6 + 4)
    assert (picture[1:5, 1:7] == 10).all() and (picture[1:5, 15:21] == 30).all() and (picture[6:10, 8:14] == 50).all()
    assert (picture[6:, 15:] == pictures.BACKGROUND).all() and (picture[5] == pictures.BACKGROUND).all()


@pytest.mark.parametrize(("n", "side"), [(64, 8), (64, 28), (100, 28), (36, 64), (784, 8)])
def test_small_images_make_pictures_of_a_good_size(n: int, side: int) -> None:
    width, height = pictures.grid(torch.zeros(n, 1, side, side), spec(1, side, side)).size
    assert width == height and 500 <= width <= 800


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 5), (1, 300, 2), (4, 900, 900)])
def test_any_size_and_number(shape: tuple[int, int, int]) -> None:
    for n in (1, 2, 3):
        pictures.grid(torch.zeros(n, *shape), spec(*shape))
    with pytest.raises(UserError, match="no images"):
        pictures.grid(torch.zeros(0, *shape), spec(*shape))


def test_originals_stand_above_their_reconstructions() -> None:
    x = torch.tensor([10, 20, 30]).view(3, 1, 1, 1).to(torch.uint8)
    y = x.float() + 100
    picture = array(pictures.reconstructions(x, y, spec(1, 1, 1), columns=2, scale=1, padding=1))[..., 0]
    assert picture[[1, 3, 8, 10], 1].tolist() == [10, 110, 30, 130]
    assert picture[[1, 3], 3].tolist() == [20, 120] and picture[8, 3] == pictures.BACKGROUND
    floats = pictures.reconstructions(
        torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.tensor([0.5, 9.0]).view(2, 1, 1, 1), spec(1, 1, 1, levels=None), scale=1
    )
    assert array(floats)[[2, 5]][:, [2, 5], 0].tolist() == [[0, 255], [128, 255]]


def test_saved_images_hold_the_raw_values(tmp_path: Path) -> None:
    x = torch.randint(0, 256, (3, 3, 5, 4)).to(torch.uint8)
    paths = pictures.save_images(tmp_path / "new" / "folder", x, spec(3, 5, 4), start=9)
    assert [path.name for path in paths] == ["000009.png", "000010.png", "000011.png"]
    assert all(np.array_equal(np.asarray(Image.open(path)).transpose(2, 0, 1), image) for path, image in zip(paths, x.numpy(), strict=True))
    deep = torch.from_numpy(np.array([[[[0, 1, 300, 65535]]]], np.uint16))
    picture = Image.open(pictures.save_images(tmp_path, deep, spec(1, 1, 4, levels=65536))[0])
    assert picture.mode.startswith("I") and np.asarray(picture).tolist() == [[0, 1, 300, 65535]]
    for channels, mode in ((1, "L"), (2, "LA"), (4, "RGBA"), (6, "RGB")):
        image = torch.randint(0, 256, (1, channels, 2, 2))
        saved = Image.open(pictures.save_images(tmp_path, image, spec(channels, 2, 2))[0])
        assert saved.mode == mode and np.asarray(saved).reshape(2, 2, -1)[..., 0].tolist() == image[0, 0].tolist()


def test_files_are_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pictures.save_grid(tmp_path / "grid.png", torch.zeros(4, 1, 8, 8), spec(1, 8, 8))
    before = path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["grid.png"]

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pictures.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        pictures.save_grid(path, torch.ones(9, 1, 8, 8), spec(1, 8, 8))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["grid.png"]
    with pytest.raises(UserError, match="ends in"):
        pictures.save_grid(tmp_path / "grid.txt", torch.zeros(1, 1, 8, 8), spec(1, 8, 8))


def test_curves(tmp_path: Path) -> None:
    rows = 12
    history = {
        "epoch": list(range(1, rows + 1)),
        "train_elbo_nats": [-1000.0, *[-100.0 + i for i in range(rows - 1)]],
        "val_elbo_nats": [None if i % 2 else -101.0 for i in range(rows)],
        "val_rate_nats": [float("nan")] * rows,
        "active_units": [None, *range(1, rows)],
        "lr": [1e-3] * rows,
        "grad_norm_nats": [3.0] * rows,
        "seconds": [1.0] * rows,
    }
    path = pictures.curves(history, tmp_path / "curves.png", title="a run")
    picture = Image.open(path)
    assert picture.size[0] == 1200 and np.asarray(picture.convert("L")).std() > 5
    assert pictures.curves({"train_loss_nats": [3.0]}, tmp_path / "one.svg").read_text().lstrip().startswith("<?xml")
    with pytest.raises(UserError, match="no figures"):
        pictures.curves({"epoch": [1, 2], "train_elbo_nats": [None, None], "lr": []}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_matplotlib_and_torchmetrics_are_not_imported_before_they_are_needed() -> None:
    code = "import sys, vaekit.pictures, vaekit.evaluation; assert not {'matplotlib', 'torchmetrics'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class Flatten(Encoder):
    def forward(self, x: Float[Tensor, "B C H W"], c: Tensor | None = None) -> Float[Tensor, "B F"]:
        return x.flatten(1)


class Plane(Decoder):
    """Two pixels that are the code, and a third that is the condition."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, d: Float[Tensor, "N D"], c: Float[Tensor, "N G"] | None = None, target: Tensor | None = None) -> Float[Tensor, "N P H W"]:
        told = torch.zeros(len(d), 1) if c is None else c[:, :1]
        return self.scale * torch.cat([d[:, :2], told], dim=1).view(-1, 1, 1, 3)


def plane(latent: int, condition: ClassCondition | AttributeCondition | None = None) -> VAE:
    return VAE(
        Flatten(),
        Flat(DiagonalGaussian(3, latent), StandardNormal([latent])),
        Plane(),
        Gaussian(sigma=1.0, channels=1, levels=None, mean=[0.0], std=[1.0]),
        condition,
    )


def test_the_map_grows_to_the_right_and_upwards() -> None:
    data = spec(1, 1, 3, levels=None, mean=(0.0,), std=(1.0,))
    picture = array(pictures.manifold(plane(2), data, n=17, scale=1))[..., 0].reshape(17, 17, 3).astype(int)
    assert (np.diff(picture[..., 0], axis=1) > 0).all() and (np.diff(picture[..., 0], axis=0) == 0).all()
    assert (np.diff(picture[..., 1], axis=0) < 0).all() and picture[8, 8].tolist() == [128, 128, 128]
    # The corner is the quantile 0.01 of the normal, -2.326, on a range of -3 to 3.
    assert abs(picture[16, 0, :2] - 255 * (3 - 2.326) / 6).max() <= 1
    with pytest.raises(UserError, match=r"two dimensions.*5 dimensions"):
        pictures.manifold(plane(5), data)


def test_the_map_of_a_conditional_model_has_one_condition() -> None:
    data = spec(1, 1, 3, levels=None, mean=(0.0,), std=(1.0,))
    condition = ClassCondition(3)
    with torch.no_grad():
        condition.embedding.weight.copy_(torch.tensor([-1.0, 0.0, 1.0]).view(3, 1).expand(3, 16))
    shades = [
        set(array(pictures.manifold(plane(2, condition), data, n=17, scale=1, condition=c))[:, 2::3, 0].flatten().tolist()) for c in (None, 0, 2)
    ]
    assert shades == [{85}, {85}, {170}]
    told = plane(2, AttributeCondition(2))
    with pytest.raises(UserError, match="attributes"):
        pictures.manifold(told, data, n=2)
    pictures.manifold(told, data, n=17, condition=torch.tensor([[1.0, 2.0]]))


def test_the_map_of_a_learned_prior_is_where_its_codes_are() -> None:
    """A mixture of two narrow Gaussians at (-9, -9) and (9, 9): quantiles of N(0, I) would show what lies between."""
    model = plane(2)
    prior = MixturePrior(2, 2)
    with torch.no_grad():
        prior.means.copy_(torch.tensor([[-9.0, -9.0], [9.0, 9.0]]))
        prior.log_variances.fill_(-6.0)
    model.latent = Flat(model.latent.posterior, prior)
    across, up = pictures._quantiles(model, 5, None)
    assert torch.allclose(across[[0, -1]], torch.tensor([-9.0, 9.0]), atol=0.3) and torch.allclose(up[[0, -1]], across[[0, -1]], atol=0.3)
