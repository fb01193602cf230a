"""Velocity fields of maps of codes."""

import pytest
import torch

from tests.contracts.examples import scrambled
from vaekit.latents.fitted import Fitted
from vaekit.latents.priors.flow_matching import FlowMatching
from vaekit.networks.velocity import Velocity, VelocityMLP
from vaekit.networks.velocity_unet import VelocityUNet

FIELDS = {
    "mlp": lambda shape, g=0: VelocityMLP(shape[0], width=8, blocks=1, condition=g),
    "unet": lambda shape, g=0: VelocityUNet(shape, [8, 16], blocks=1, condition=g),
}
MAPS = [name for name in FIELDS if name != "mlp"]


@pytest.mark.parametrize(("name", "shape"), [("mlp", [3]), *[(n, s) for n in MAPS for s in ([3, 5, 4], [2, 1, 1], [4, 1, 3])]], ids=str)
def test_every_field(name: str, shape: list[int]) -> None:
    torch.manual_seed(0)
    field: Velocity = FIELDS[name](shape, 4)
    x, t, c = torch.randn(6, *shape), torch.rand(6), torch.randn(6, 4)
    assert (field(x, t, c) == 0).all(), "it starts at 0"
    scrambled(field)
    v = field(x, t, c)
    assert v.shape == x.shape and v.dtype == torch.float32 and field.shape == tuple(shape)
    torch.testing.assert_close(field(x[2:3], t[2:3], c[2:3]), v[2:3], rtol=1e-4, atol=1e-5)  # codes do not see each other
    torch.testing.assert_close(field(x, t), field(x, t, torch.zeros(6, 4)))
    torch.testing.assert_close(field(x, t[:1], c), field(x, t[:1].expand(6), c), rtol=1e-4, atol=1e-5)  # one time for all
    torch.testing.assert_close(field(x, t[:1]), field(x, t[:1].expand(6)), rtol=1e-4, atol=1e-5)
    for other in (field(x, t.flip(0), c), field(x, t, c.flip(0))):
        assert not torch.allclose(other, v)
    v.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in field.parameters())
    unused = [k for k, p in field.named_parameters() if (p.grad == 0).all()]
    # With one position attention is all on itself, and queries and keys count for nothing.
    assert all(shape[1:] == [1, 1] and "qkv" not in k for k in unused) or not unused


@pytest.mark.parametrize("name", MAPS)
def test_every_position_sees_every_other(name: str) -> None:
    torch.manual_seed(0)
    field = scrambled(FIELDS[name]([2, 6, 5]))
    x, t = torch.randn(1, 2, 6, 5, requires_grad=True), torch.tensor([0.4])
    for i, j in ((0, 0), (5, 4), (2, 3)):
        (gradient,) = torch.autograd.grad(field(x, t)[0, :, i, j].sum(), x)
        assert (gradient.abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", MAPS)
def test_maps_that_are_the_same_everywhere_are_learnt(name: str) -> None:
    """One number, repeated over the map with little noise: what a field that looked at each position alone could not draw."""
    torch.manual_seed(0)
    z = 2 + torch.randn(512, 1, 1, 1) + 0.2 * torch.randn(512, 1, 3, 3)
    fields = {
        "unet": lambda: VelocityUNet([1, 3, 3], [16, 16], 1),
    }
    model = Fitted(FlowMatching(fields[name](), steps=10), [1, 3, 3])
    model.initialize(z)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 200)
        loss = -model(z[torch.randint(0, 512, (64,))]).log_px.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = model.eval().sample(500).flatten(1)
    assert torch.corrcoef(x.T).min() > 0.8  # 0.96 in the data, 0 at the start
    assert x.mean().item() == pytest.approx(2, abs=0.3) and x.std().item() == pytest.approx(1, abs=0.25)


def test_the_unet_halves_no_further_than_to_one_position() -> None:
    for side, levels in ((1, 1), (2, 2), (3, 3), (4, 3), (5, 3)):
        assert len(VelocityUNet([1, side, 1], [8, 8, 8]).down) == levels
