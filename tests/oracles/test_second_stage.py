"""Priors that are fitted afterwards: the field that carries noise to a Gaussian is known, and so is what its loss cannot go below."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents.fitted import Fitted
from vaekit.latents.priors import MixturePrior
from vaekit.latents.priors.flow_matching import PATHS, FlowMatching
from vaekit.latents.priors.full_mixture import FullMixturePrior
from vaekit.networks import AttributeCondition, ClassCondition, Condition
from vaekit.networks.velocity import Velocity, VelocityMLP
from vaekit.objectives import ELBO
from vaekit.output import Batch
from vaekit.recipes.second_stage import FORMS, KINDS, codes_like, second_stage
from vaekit.training.task import Task

ROOT = Path(__file__).parents[2]
MEAN, STD = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.5, 2.0, 1.0])


class Exact(Velocity):
    """What makes the field the best one for codes of N(MEAN, STD^2), E[a' e + b' z | a e + b z = x], in closed form, times `scale`."""

    def __init__(self, path: str, scale: float) -> None:
        super().__init__()
        self.shape, self.condition, self.scale = (3,), 0, scale
        self.path = FlowMatching(VelocityMLP(3), path)._path
        self.place = torch.nn.Parameter(torch.zeros(0))  # on some device

    def forward(self, y: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        (a, slope_a), (b, slope_b) = self.path(t.unsqueeze(1))
        s = (a * a + b * b).sqrt()
        x, spread = y * s, a * a + (b * STD) ** 2
        best = self.scale * (slope_b * MEAN + (a * slope_a + b * slope_b * STD**2) / spread * (x - b * MEAN))
        return (best - (a * slope_a + b * slope_b) / s**2 * x) * s / (a * slope_b - slope_a * b)


def exact(path: str, scale: float = 1.0) -> FlowMatching:
    return FlowMatching(Exact(path, scale), path, steps=60)


@pytest.mark.parametrize("path", PATHS)
def test_the_best_field_carries_noise_to_the_codes(path: str) -> None:
    torch.manual_seed(0)
    x = exact(path).sample(20_000)
    assert ((x.mean(0) - MEAN).abs() < 5 * STD / 20_000**0.5).all()
    torch.testing.assert_close(x.std(0), STD, rtol=0.03, atol=0)
    torch.testing.assert_close(exact(path).sample(2, temperature=0.0)[0], MEAN, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("path", PATHS)
def test_the_loss_is_least_at_the_best_field(path: str) -> None:
    """And there it is the variance of a' e + b' z given x_t, summed over dimensions, averaged over t."""
    z = MEAN + STD * torch.randn(100_000, 3)

    def loss(scale: float) -> float:
        torch.manual_seed(1)
        return exact(path, scale).loss(z).mean().item()

    t = torch.linspace(0.0005, 0.9995, 1000)
    (a, slope_a), (b, slope_b) = (tuple(v.unsqueeze(1) for v in pair) for pair in exact(path)._path(t))
    variance = (slope_a**2 + slope_b**2 * STD**2) - (a * slope_a + b * slope_b * STD**2) ** 2 / (a**2 + b**2 * STD**2)
    assert loss(1.0) == pytest.approx(variance.sum(1).mean().item(), rel=0.02)
    assert loss(1.0) < min(loss(0.9), loss(1.1))


@pytest.mark.parametrize(("path", "variance"), [("straight", math.pi / 2), ("cosine", (math.pi / 2) ** 2)])
def test_it_starts_as_the_best_field_for_a_standard_normal(path: str, variance: float) -> None:
    """Then the loss is what no field can tell: (a b' - a' b)^2 / (a^2 + b^2) for each dimension, whose mean over t is known."""
    torch.manual_seed(0)
    prior = FlowMatching(VelocityMLP(3, width=8, blocks=1), path)
    x = prior.sample(20_000)
    assert (x.mean(0).abs() < 5 / 20_000**0.5).all()
    torch.testing.assert_close(x.T.cov(), torch.eye(3), rtol=0.03, atol=0.03)
    assert prior.loss(torch.randn(100_000, 3)).mean().item() == pytest.approx(3 * variance, rel=0.01)


def test_guidance_goes_on_from_the_free_field_through_the_told_one() -> None:
    torch.manual_seed(0)
    prior = FlowMatching(VelocityMLP(2, width=16, blocks=1, condition=4))
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, t, c = torch.randn(5, 2), torch.tensor(0.3), torch.randn(5, 4)
    free, told = prior.field(x, t.expand(5), torch.zeros(5, 4)), prior.field(x, t.expand(5), c)
    assert not torch.allclose(free, told)
    torch.testing.assert_close(prior._guided(x, t, c, 1.0), told)
    torch.testing.assert_close(prior._guided(x, t, c, 3.0), free + 3 * (told - free))


def test_a_fitted_density_is_that_of_the_codes_themselves() -> None:
    """-log p of raw codes, whatever their scale: the change of variables of the standardization is in it."""
    torch.manual_seed(0)
    z = 100 + 5 * torch.randn(512, 2)
    model = Fitted(MixturePrior(2, 400), [2])
    images = z[:, None, None, :]
    model.initialize(images)
    m, s = z.mean(0), z.std(0, correction=0)
    expected = -model.prior(None).log_prob((z - m) / s) + s.log().sum()
    torch.testing.assert_close(-model(Batch(images)).log_px[0], expected)
    assert model.sample(4000).mean(0) == pytest.approx(m.tolist(), abs=1.0)


def test_the_condition_is_dropped_in_training_alone() -> None:
    torch.manual_seed(0)
    prior = FlowMatching(VelocityMLP(2, width=8, blocks=1, condition=16))
    model = Fitted(prior, [2], condition=ClassCondition(3), dropped=0.5)
    seen: list[Tensor] = []
    prior.loss = lambda code, c: (seen.append(c), torch.zeros(len(code)))[1]  # type: ignore[method-assign]
    batch = Batch(torch.randn(400, 1, 1, 2), condition=torch.zeros(400, dtype=torch.long))
    model.train()(batch)
    model.eval()(batch)
    gone = [(c == 0).all(1).float().mean().item() for c in seen]
    assert 0.4 < gone[0] < 0.6 and gone[1] == 0


SHAPES = {"vector": ([2], None), "map": ([2, 3, 3], None), "indices": ([2, 2, 3], 5)}


TOLD: dict[str, Callable[[], tuple[Condition | None, Tensor | None]]] = {
    "nothing": lambda: (None, None),
    "class": lambda: (ClassCondition(3), torch.arange(64) % 3),
    "attributes": lambda: (AttributeCondition(2, marked=True), torch.randn(64, 2)),
}


@pytest.mark.parametrize(
    ("kind", "form", "told"),
    [(kind, form, told) for told, make in TOLD.items() for kind in KINDS for form in SHAPES if KINDS[kind].has(form, make()[0])],
)
def test_every_kind_learns_and_draws(kind: str, form: str, told: str) -> None:
    torch.manual_seed(0)
    shape, size = SHAPES[form]
    codes = 10 + torch.randn(64, *shape) if size is None else torch.randint(size, (64, *shape))
    condition, known = TOLD[told]()
    images = Batch(codes_like(codes), condition=known)
    model = second_stage(kind, shape, size, condition, count=20 if condition else 50_000).model
    model.initialize(images)
    with torch.no_grad():
        for parameter in model.parameters():  # what starts at zero hides what lies behind it
            parameter.add_(0.02 * torch.randn_like(parameter))
    (-model(images).log_px.mean()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert any((p.grad != 0).any() for p in model.parameters())
    x = model.eval().sample(7)
    assert x.shape == (7, *shape) and torch.isfinite(x).all() and x.is_floating_point() == (size is None)
    if known is not None:
        for name in model.prior.takes:
            value = {"guidance": 2.0, "top": 2}[name]
            assert model.sample(7, condition=known[:7], **{name: value}).shape == x.shape
            assert model.sample(7, condition=known[1].expand(7, *known.shape[1:]), **{name: value}).shape == x.shape
    elif "guidance" in model.prior.takes:
        with pytest.raises(UserError, match="fitted without one"):
            model.sample(7, guidance=2.0)


def test_a_map_is_standardized_by_its_channels() -> None:
    """A position that hardly varies stays one that hardly varies."""
    torch.manual_seed(0)
    scale = torch.tensor([[[1.0, 1e-3]], [[5.0, 2.0]]])
    z = torch.tensor([3.0, -1.0]).view(2, 1, 1) + scale * torch.randn(4096, 2, 1, 2)
    model = second_stage(None, [2, 1, 2]).model
    model.initialize(z)
    for i in range(2):
        torch.testing.assert_close(model.mean[i], z[:, i].mean().expand(1, 2))
        torch.testing.assert_close(model.std[i], z[:, i].std(correction=0).expand(1, 2))
    coded = model._coded(z)
    torch.testing.assert_close(coded * model.std + model.mean, z)
    assert coded[:, 0, 0, 1].std() < 0.01


def test_flow_matching_learns_a_correlated_cloud() -> None:
    torch.manual_seed(0)
    z = torch.randn(1024, 2) @ torch.tensor([[1.0, 0.9], [0.0, 0.3]])
    model = Fitted(FlowMatching(VelocityMLP(2, width=32, blocks=1), steps=20), [2])
    images = z[:, None, None, :]
    model.initialize(images)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(300):
        loss = -model(images[torch.randint(0, 1024, (128,))]).log_px.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = model.eval().sample(3000)
    assert torch.corrcoef(x.T)[0, 1].item() > 0.8  # 0.95 in the data, 0 at the start


def test_what_cannot_be_fitted_is_refused() -> None:
    for kind, shape, size, told, words in [
        ("gan", [3], None, None, "no prior 'gan'"),
        ("flow", [3, 7, 7], None, None, "flow is not for maps of numbers: choose one of flow-matching, diffusion."),
        ("flow", [1, 7, 7], 64, None, "not for maps of indices: choose one of autoregressive, transformer."),
        ("transformer", [3], None, None, "not for vectors"),
        ("two-stage", [3], None, ClassCondition(2), "two-stage knows no condition on vectors: choose one of flow-matching, diffusion, gmm, flow."),
        ("gmm", [3], None, AttributeCondition(2), "gmm knows no attributes on vectors: choose one of flow-matching, diffusion, flow."),
        (None, [3, 7], None, None, "have the shape"),
        (None, [7], 64, None, "have the shape"),
    ]:
        with pytest.raises(UserError, match=words):
            second_stage(kind, shape, size, told)
    model = second_stage("gmm", [3]).model
    with pytest.raises(UserError, match="at least 1, and it is 0"):
        second_stage(None, [1, 2, 2], 4).model.sample(2, top=0)
    with pytest.raises(UserError, match="no guidance"):
        model.sample(2, guidance=2.0)
    assert math.isfinite(model.sample(2).sum().item())


def test_the_gmm_of_classes_is_told_them_as_they_are() -> None:
    model = second_stage(None, [4], condition=ClassCondition(3), count=200).model
    assert isinstance(model.prior, FullMixturePrior) and len(model.prior.means) == 3 * 2
    torch.manual_seed(0)
    y = torch.arange(300) % 3
    model.initialize(Batch(torch.randn(300, 1, 1, 4) + 20.0 * y[:, None, None, None], condition=y))
    for wanted in range(3):
        near = model.sample(50, condition=torch.tensor([wanted])).mean(1) / 20
        assert (near.round() == wanted).all()


def test_it_draws_what_goes_with_attributes_and_without_them_what_all_codes_are_like() -> None:
    """z = (a, -a) + noise with a ~ N(5, 2^2): given a it is about that, given none it is spread as a is."""
    torch.manual_seed(0)
    a = 5 + 2 * torch.randn(2000, 1)
    images = Batch(codes_like(torch.cat([a, -a], 1) + 0.1 * torch.randn(2000, 2)), condition=a)
    recipe = second_stage(None, [2], condition=AttributeCondition(1, marked=True))
    assert recipe.name == "prior-flow"
    model = recipe.model
    model.initialize(images)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        rows = torch.randint(2000, (256,))
        optimizer.zero_grad()
        (-model(images[rows]).log_px.mean()).backward()
        optimizer.step()
    model.eval()
    for wanted in (3.0, 5.0, 7.0):  # 5 is the mean: told it is not the same as told nothing
        z = model.sample(500, condition=torch.tensor([[wanted]]).expand(500, 1))
        assert z.mean(0).tolist() == pytest.approx([wanted, -wanted], abs=0.3) and (z.std(0) < 0.8).all()
    assert model.sample(2000).std(0).tolist() == pytest.approx([2, 2], rel=0.2)


@pytest.mark.parametrize(("latent", "count", "name"), [(4, 1000, "gmm"), (4, 79, "flow-matching"), (600, 50_000, "flow-matching")])
def test_few_images_and_long_codes_get_no_covariances(latent: int, count: int, name: str) -> None:
    assert second_stage(None, [latent], count=count).name == f"prior-{name}"


class Started(ELBO):
    """An objective that looks at the model's output to start."""

    def initialize(self, out: object) -> None:
        pass


def test_only_the_fit_looks_at_all_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The densities of all codes under all Gaussians at once took tens of gigabytes."""
    sizes: list[int] = []
    forward = Fitted.forward
    monkeypatch.setattr(Fitted, "forward", lambda self, batch: (sizes.append(len(batch)), forward(self, batch))[1])
    codes = Batch(codes_like(torch.randn(3000, 2)))
    Task(second_stage("gmm", [2]).model, ELBO()).initialize(codes)
    assert sizes == [], "an objective that starts from nothing needs no pass"
    Task(second_stage("gmm", [2]).model, Started()).initialize(codes)
    assert sizes == [1024]


def test_large_maps_are_taken_a_few_at_a_time() -> None:
    assert second_stage(None, [4, 64, 64]).defaults.batch_size == 8 and second_stage(None, [4, 16, 16]).defaults.batch_size == 32
    assert [second_stage(None, [1, n, n], 512).defaults.batch_size for n in (64, 16, 7, 4)] == [8, 32, 167, 256]
    assert second_stage(None, [4, 2, 2]).defaults.batch_size == second_stage(None, [4]).defaults.batch_size == 256


@pytest.mark.parametrize(("kind", "form"), [(kind, form) for kind in KINDS for form in SHAPES if KINDS[kind].has(form)])
def test_the_sizes_of_a_prior_are_knobs(kind: str, form: str) -> None:
    """Each that `docs/priors.md` names for this kind and form makes another network, and none else is taken."""
    shape, size = SHAPES[form]

    def made(**knobs: float | str) -> tuple[object, ...]:
        prior = second_stage(kind, shape, size, knobs=knobs).model.prior
        return getattr(prior, "steps", None), getattr(prior, "heads", None), *(p.shape for p in prior.parameters())

    row = next(line for line in (ROOT / "docs" / "priors.md").read_text().splitlines() if line.startswith(f"| `{kind}`, {FORMS[form]} |"))
    named = dict(re.findall(r"`(\w+)=(\d+)`", row))
    plain = made()
    assert named and made(**named) == plain
    for name, own in named.items():
        other = 2 * int(own)
        assert made(**{name: other}) != plain
        with pytest.raises(UserError, match=f"{name} is a whole number"):
            made(**{name: 1.5})
    with pytest.raises(UserError, match=rf"The prior {kind}, of {FORMS[form]}, has no knob 'size'; it has {', '.join(named)}\."):
        made(size=3)
    if kind == "gmm":
        with pytest.raises(UserError, match=r"There are 9 images, .* 10 Gaussians: take fewer"):
            second_stage(kind, shape, count=9, knobs={"components": 10})
    if (kind, form) == ("flow-matching", "map"):
        with pytest.raises(UserError, match="width is a multiple of 8"):
            made(width=12)
