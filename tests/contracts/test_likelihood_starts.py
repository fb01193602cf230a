"""Where a decoder starts: the bias for which p(x), without any z, has what is known of each pixel."""

import pytest
import torch

from tests.contracts.test_likelihoods import NAMES, _data, _images
from vaekit.likelihoods import Categorical, for_data


@pytest.mark.parametrize("name", NAMES)
def test_the_bias_gives_each_pixel_its_mean(name: str) -> None:
    data = _data(name)
    likelihood = for_data(name, data)
    x = _images(data, 16)
    bias = likelihood.bias(x)
    assert bias.shape == (likelihood.channels(3), 5, 4)
    scale = data.levels - 1
    # The clipped logistic has heavy tails beyond the range, and the categorical borrows from the other pixels.
    within = {"logistic": 0.3, "mixture": 0.3, "categorical": 0.05}.get(name, 0.011)
    assert (likelihood(bias[None]).mean[0] - x.float().mean(0)).abs().max() < within * scale


def test_the_bias_of_categories_counts_their_levels() -> None:
    """Each level of each value, with the frequencies of the channel as one more image: without a vector of 256 for each value of a batch."""
    x = torch.randint(0, 5, (7, 3, 5, 4), dtype=torch.uint8)
    counts = torch.nn.functional.one_hot(x.long(), 5).permute(0, 4, 1, 2, 3).sum(0).double()
    channel = (counts + 1 / 5).mean((2, 3), keepdim=True)
    expected = torch.log((counts + channel / channel.sum(0, keepdim=True)) / 8).flatten(0, 1)
    torch.testing.assert_close(Categorical(5).bias(x).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_bias_of_blank_images_is_finite(name: str) -> None:
    data = _data(name)
    likelihood = for_data(name, data)
    blank = torch.zeros(4, *data.shape, dtype=torch.uint8)
    likelihood.initialize(blank)
    px = likelihood(likelihood.bias(blank)[None])
    assert torch.isfinite(px.log_prob(likelihood.target(blank[:1]))).all()


def test_the_components_of_a_mixture_start_apart() -> None:
    data = _data("mixture")
    likelihood = for_data("mixture", data)
    assert likelihood(likelihood.bias(_images(data))[None]).loc.std(1).min() > 0
