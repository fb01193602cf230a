"""The losses of a GAN against closed forms: gradient penalties, the best discriminator, and the bound of a model that only generates."""

import math

import pytest
import torch
from torch import Tensor

from tests.contracts.examples import EXAMPLES, scrambled, spec_of, vae
from vaekit.errors import UserError
from vaekit.latents import DensityPrior, PriorOnly, StandardNormal
from vaekit.likelihoods import Bernoulli, Gaussian
from vaekit.model import VAE
from vaekit.networks import AttributeCondition, ClassCondition, Decoder
from vaekit.objectives import NoBound
from vaekit.output import Batch, VAEOutput
from vaekit.part import registered, spec
from vaekit.penalties import Critic, Discriminator, GeneratorLoss, ImageCritic
from vaekit.penalties.gradient_penalty import between, one_lipschitz, r1, squared_gradient_norms
from vaekit.recipes import build_recipe
from vaekit.testing import check_model, check_penalty
from vaekit.training.critics import Critics
from vaekit.training.options import Training
from vaekit.training.task import Task

KINDS = {"non-saturating": ("non-saturating", "real"), "wasserstein": ("wasserstein", "between")}


def linear(
    loss: str = "non-saturating", at: str = "real", strength: float = 1.0, shape: tuple[int, ...] = (1, 1, 1), **more: object
) -> Discriminator:
    """D(x) = w.x + b: a discriminator without convolutions."""
    return Discriminator(list(shape), [], loss, at, strength, **more)  # type: ignore[arg-type]


class Affine(Decoder):
    """G(z) = A z + b, the parameters of a Gaussian over raw floats."""

    def __init__(self, latent: int, output: list[int]) -> None:
        super().__init__()
        self.output = output
        self.map = torch.nn.Linear(latent, math.prod(output))

    def forward(self, d: Tensor, c: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        return self.map(d).view(-1, *self.output)


def generator(latent: int = 2, shape: tuple[int, ...] = (1, 1, 2), sigma: float = 1.0) -> VAE:
    return VAE(None, PriorOnly(StandardNormal([latent])), Affine(latent, list(shape)), Gaussian(sigma=sigma, channels=shape[0], levels=None))


# -- gradient penalties


def test_penalties_of_a_parabola_by_hand() -> None:
    """D(x) = a x^2 at x = 1 and 3 with a = 1: gradients 2 and 6. R1 is (4 + 36) / 4, its gradient 4 a mean(x^2); their norms less 1 are 1 and 5."""
    a = torch.tensor(1.0, requires_grad=True)
    x = torch.tensor([[1.0], [3.0]])
    squared = squared_gradient_norms(lambda x: (a * x.square()).sum(1), x)
    assert squared.tolist() == [4.0, 36.0]
    assert r1(squared, 1.0).item() == 10.0 and r1(squared, 3.0).item() == 30.0
    assert one_lipschitz(squared, 10.0).item() == pytest.approx(10 * (1 + 25) / 2)
    (learned,) = torch.autograd.grad(r1(squared, 1.0), a, retain_graph=True)
    assert learned.item() == pytest.approx(4 * 1.0 * 5.0)
    (learned,) = torch.autograd.grad(one_lipschitz(squared, 1.0), a)
    assert learned.item() == pytest.approx((2 * 1 * 2 + 2 * 5 * 6) / 2)  # mean of 2 (|2 a x| - 1) |2 x|
    assert not x.requires_grad


def test_penalties_of_a_linear_critic() -> None:
    """The gradient of w.x + b is w everywhere: R1 is gamma |w|^2 / 2, WGAN-GP lambda (|w| - 1)^2, and the rest of the loss is that of the game."""
    torch.manual_seed(0)
    real, fake = torch.rand(5, 2, 3, 4), torch.rand(5, 2, 3, 4)
    for (loss, at), penalty in {
        ("non-saturating", "real"): lambda w: 0.5 * 3.0 * w.square().sum(),
        ("wasserstein", "between"): lambda w: 3.0 * (w.norm() - 1) ** 2,
    }.items():
        critic = linear(loss, at, 3.0, (2, 3, 4))
        w, b = critic.net.head.weight[0], critic.net.head.bias
        d_real, d_fake = (x.flatten(1) @ w + b for x in (real, fake))
        game = (
            d_fake.mean() - d_real.mean()
            if loss == "wasserstein"
            else torch.nn.functional.softplus(-d_real).mean() + torch.nn.functional.softplus(d_fake).mean()
        )
        assert torch.allclose(critic(real=real, fake=fake), game + penalty(w), atol=1e-5)
        (taken,) = torch.autograd.grad(critic(real=real, fake=fake), critic.net.head.weight)
        (expected,) = torch.autograd.grad(game + penalty(w), critic.net.head.weight)
        assert torch.allclose(taken, expected, atol=1e-5)
        with torch.no_grad():
            assert torch.allclose(critic(real=real, fake=fake), (game + penalty(w)).detach(), atol=1e-5), "no gradients, no loss"


def test_points_between_are_on_the_line() -> None:
    torch.manual_seed(0)
    points = between(torch.ones(4000, 1, 1, 2), torch.zeros(4000, 1, 1, 2)).flatten(1)
    assert torch.equal(points[:, 0], points[:, 1]), "one u for all values of a pair"
    assert points.min() >= 0 and points.max() <= 1
    assert points.mean().item() == pytest.approx(0.5, abs=0.02) and points.var().item() == pytest.approx(1 / 12, abs=0.005)


def test_a_flat_critic_has_a_gradient() -> None:
    """Where the gradient is 0 the root of WGAN-GP has no derivative."""
    critic = linear("wasserstein", "between", 10.0)
    torch.nn.init.zeros_(critic.net.head.weight)
    critic(real=torch.ones(3, 1, 1, 1), fake=torch.zeros(3, 1, 1, 1)).backward()
    assert torch.isfinite(critic.net.head.weight.grad).all()


# -- the best discriminator


def gradient_at(critic: Discriminator, weight: float, real: float, fake: float) -> list[float]:
    """The gradient of the critic's loss by (w, b) at w = weight and b = 0, for N(real, 1) against N(fake, 1), over 20,000 standardized draws."""
    torch.manual_seed(0)
    noise = torch.randn(20_000, 1, 1, 1)
    noise = (noise - noise.mean()) / noise.std(correction=0)
    torch.nn.init.constant_(critic.net.head.weight, weight)
    torch.nn.init.zeros_(critic.net.head.bias)
    gradients = torch.autograd.grad(critic(real=real + noise, fake=fake - noise), [critic.net.head.weight, critic.net.head.bias])
    return [g.item() for g in gradients]


def test_the_best_discriminator_of_two_gaussians() -> None:
    """It is log p(x) / q(x), which for N(1, 1) and N(-1, 1) is 2 x: there the loss, which is convex in w and b, is least; R1 adds gamma w."""
    assert gradient_at(linear(strength=0.0), 2.0, 1.0, -1.0) == pytest.approx([0.0, 0.0], abs=4e-3)
    assert gradient_at(linear(strength=0.0), 1.8, 1.0, -1.0)[0] < -5e-3 and gradient_at(linear(strength=0.0), 2.2, 1.0, -1.0)[0] > 5e-3
    assert gradient_at(linear(strength=0.3), 2.0, 1.0, -1.0) == pytest.approx([0.3 * 2.0, 0.0], abs=4e-3)


def test_the_best_wasserstein_critic_of_two_gaussians() -> None:
    """-w (m - n) + lambda (w - 1)^2 is least at w = 1 + (m - n) / (2 lambda)."""
    assert gradient_at(linear("wasserstein", "between", 10.0), 1 + 2.0 / 20, 2.5, 0.5) == pytest.approx([0.0, 0.0], abs=5e-3)
    assert gradient_at(linear("wasserstein", "between", 10.0), 1.0, 2.5, 0.5)[0] == pytest.approx(-2.0, abs=5e-3)


def test_a_share_of_the_batch_estimates_the_same_penalty() -> None:
    """The gradient is penalized at the first images alone; the rest of the loss is of all of them."""
    torch.manual_seed(0)
    real, fake = torch.randn(8, 1, 2, 2), torch.randn(8, 1, 2, 2)
    critic = Discriminator([1, 2, 2], [3], strength=2.0, share=0.25)
    whole, none = (Discriminator([1, 2, 2], [3], strength=strength) for strength in (2.0, 0.0))
    for other in (whole, none):
        other.load_state_dict(critic.state_dict())
    penalty = whole(real=real[:2], fake=fake[:2]) - none(real=real[:2], fake=fake[:2])
    assert torch.allclose(critic(real=real, fake=fake), none(real=real, fake=fake) + penalty, atol=1e-6) and penalty > 0
    with pytest.raises(UserError, match="share of the images"):
        Discriminator([1, 2, 2], [3], share=0.0)


# -- the generator


@pytest.mark.parametrize("kind", KINDS)
def test_neither_learns_from_the_others_loss(kind: str) -> None:
    torch.manual_seed(0)
    model = generator(shape=(2, 9, 11))
    critic = Discriminator([2, 9, 11], [4, 8], *KINDS[kind], 1.0, lr=3e-3)
    critics = Critics({"image": critic}, Training(), torch.device("cpu"))
    penalty = GeneratorLoss(None)
    task = Task(model, NoBound(), (penalty,), {"image": critic})
    x = Batch(torch.randn(8, 2, 9, 11))
    check_penalty_with(penalty, model, x, critic)
    step = task(x)
    step.loss.backward()
    assert all(p.grad is None for p in critic.parameters()), "the critic learns from the model's loss"
    taken = [p.grad.clone() for p in model.parameters()]
    assert all(g.abs().sum() > 0 for g in taken)
    task.zero_grad(set_to_none=True)
    before, weights = [p.clone() for p in critic.parameters()], [p.clone() for p in model.parameters()]
    critics.step(step.feeds)
    assert all(p.grad is None for p in model.parameters()), "the model learns from the critic's loss"
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))

    def ability() -> float:
        torch.manual_seed(5)
        with torch.no_grad():
            return critic(**penalty.feeds(model(Batch(torch.randn(64, 2, 9, 11))))).item()

    for _ in range(20):
        critics.step({"image": penalty.feeds(model(Batch(torch.randn(64, 2, 9, 11))))})
    learned = ability()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(20):
        penalty(model(x), critic).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert ability() > learned + 0.01, "the generator's steps help the discriminator"


def check_penalty_with(penalty: GeneratorLoss, model: VAE, x: Batch, critic: Critic) -> None:
    check_penalty(penalty, model, x, critic)
    with pytest.raises(UserError, match="asks the critic 'image'"):
        penalty(model(x))
    with pytest.raises(UserError, match="asks the critic 'image'"):
        penalty(model(x), ImageCritic(2, [4]))


def test_the_loss_is_that_of_the_game() -> None:
    """softplus(-D) non-saturating and -D Wasserstein, at the means of p(x|z); the objective adds nothing."""
    torch.manual_seed(0)
    model, x = generator(), Batch(torch.randn(6, 1, 1, 2))
    out = model(x)
    for loss, of in (("non-saturating", lambda d: torch.nn.functional.softplus(-d)), ("wasserstein", lambda d: -d)):
        critic = linear(loss, shape=(1, 1, 2))
        verdict = out.px.mean.flatten(1) @ critic.net.head.weight[0] + critic.net.head.bias
        assert torch.allclose(GeneratorLoss(None)(out, critic), of(verdict), atol=1e-6)
    assert NoBound()(out).tolist() == [0.0] * 6
    feeds = GeneratorLoss(None).feeds(out)
    assert torch.equal(feeds["real"], x.x) and torch.equal(feeds["fake"], out.px.mean) and "condition" not in feeds


def test_bits_go_straight_through() -> None:
    """With two levels the discriminator sees bits; their gradient is the mean's, which is exact in expectation for a linear discriminator."""
    torch.manual_seed(0)
    decoder = Affine(3, [1, 2, 2])
    model = VAE(None, PriorOnly(StandardNormal([3])), decoder, Bernoulli())
    batch = Batch(torch.randint(0, 2, (4, 1, 2, 2), dtype=torch.uint8))
    penalty, critic = GeneratorLoss(2), linear("wasserstein", shape=(1, 2, 2))
    out = model(batch)
    feeds = penalty.feeds(out)
    assert set(feeds["fake"].unique().tolist()) <= {0.0, 1.0} and set(feeds["real"].unique().tolist()) <= {0.0, 1.0}
    (taken,) = torch.autograd.grad(penalty(out, critic).sum(), decoder.map.bias, retain_graph=True)
    (exact,) = torch.autograd.grad(-(out.px.mean.flatten(1) @ critic.net.head.weight[0]).sum(), decoder.map.bias)
    assert torch.allclose(taken, exact, atol=1e-6)
    bits = torch.stack([penalty.feeds(out)["fake"] for _ in range(2000)])
    assert torch.allclose(bits.mean(0), out.px.mean.detach(), atol=0.06)


def test_missing_pixels_are_missing_in_both() -> None:
    """What a real image does not show, no fake shows: the discriminator cannot tell them by their holes, nor look into them."""
    torch.manual_seed(0)
    x, mask = torch.randn(5, 1, 1, 2), torch.rand(5, 1, 1, 2) > 0.5
    feeds = GeneratorLoss(None).feeds(generator()(Batch(x, mask=mask)))
    assert (feeds["fake"][~mask] == 0).all() and (feeds["real"][~mask] == 0).all() and torch.equal(feeds["real"][mask], x[mask])
    assert not torch.isclose(feeds["fake"][mask], feeds["real"][mask]).any()


def test_a_small_gan_finds_its_data() -> None:
    """A linear generator against a linear discriminator, which compares means: b goes to the data's mean."""
    torch.manual_seed(0)
    model = generator(1, (1, 1, 1), sigma=1.0)
    critic = linear()
    critics = Critics({"image": critic}, Training(lr=2e-2), torch.device("cpu"))
    task = Task(model, NoBound(), (GeneratorLoss(None),), {"image": critic})
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2, betas=(0.0, 0.99))
    for _ in range(200):
        step = task(Batch(2.0 + 0.5 * torch.randn(64, 1, 1, 1)))
        step.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        critics.step(step.feeds)
    assert model.decoder.map.bias.item() == pytest.approx(2.0, abs=0.5)


# -- the steps of a critic


def test_each_step_sees_its_own_part_of_the_batch() -> None:
    torch.manual_seed(0)
    seen: list[Tensor] = []

    class Watching(Discriminator):
        def forward(self, real: Tensor, fake: Tensor, condition: Tensor | None = None) -> Tensor:  # type: ignore[override]
            seen.append(torch.cat([real, fake], 1))
            return super().forward(real, fake, condition)

    critic = Watching([1, 1, 1], [], steps=3)
    critics = Critics({"image": critic}, Training(), torch.device("cpu"))
    feed = {"real": torch.arange(8.0).view(8, 1, 1, 1), "fake": 10 + torch.arange(8.0).view(8, 1, 1, 1)}
    critics.step({"image": feed})
    assert [len(part) for part in seen] == [3, 3, 2]
    whole = torch.cat(seen).flatten(1)
    assert torch.equal(whole[:, 0], torch.arange(8.0)) and torch.equal(whole[:, 1], 10 + whole[:, 0])
    seen.clear()
    critics.step({"image": {k: v[:2] for k, v in feed.items()}})
    assert [len(part) for part in seen] == [1, 1], "two images are two steps"


# -- conditions


def test_the_discriminator_is_told_the_class() -> None:
    """D(x, y) = w.f + b + (V e(y)).f: the verdict on the same image differs between classes by (V (e(y) - e(y'))).f."""
    torch.manual_seed(0)
    critic = linear(shape=(1, 2, 2), condition=ClassCondition(3, 5))
    x = torch.rand(4, 1, 2, 2)
    one, two = (critic.logits(x, torch.full((4,), y)) for y in (0, 2))
    e, v = critic.condition.embedding.weight, critic.net.told.weight
    assert torch.allclose(one - two, ((e[0] - e[2]) @ v.T * x.flatten(1)).sum(1), atol=1e-5)


def test_real_and_fake_are_of_the_same_class() -> None:
    recipe = build_recipe("gan", spec_of([1, 12, 12], classes=("a", "b", "c")), condition="class", scale=0.25)
    task = Task(scrambled(recipe.model), recipe.objective, recipe.penalties, recipe.critics)
    y = torch.tensor([2, 0, 1, 1])
    step = task(Batch(torch.randint(0, 256, (4, 1, 12, 12), dtype=torch.uint8), condition=y))
    assert torch.equal(step.feeds["image"]["condition"], y)
    critic = recipe.critics["image"]
    assert critic.condition is not None and critic.condition is not recipe.model.condition, "each learns the classes for itself"
    step.loss.backward()
    assert recipe.model.condition.embedding.weight.grad.abs().sum() > 0


def test_attributes_are_told_to_both_in_the_same_units() -> None:
    recipe = build_recipe("gan", spec_of([1, 12, 12], attributes=("u", "v")), condition="attributes", scale=0.25)
    told = torch.tensor([[1.0, 200.0], [3.0, 600.0]])
    recipe.model.initialize(Batch(torch.randint(0, 256, (2, 1, 12, 12), dtype=torch.uint8), condition=told))
    critic = recipe.critics["image"]
    assert isinstance(critic.condition, AttributeCondition)
    assert torch.equal(critic.condition(told), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))


# -- the bound of a model that only generates


def test_the_bound_of_a_blind_model_is_valid_and_loose() -> None:
    """x = A z + b + noise: E_p(z)[log p(x|z)] and log p(x) in closed form; the rate is 0, and many draws of the prior close the gap."""
    torch.manual_seed(0)
    model = generator(2, (1, 1, 3), sigma=0.7).eval()
    a, b = model.decoder.map.weight.detach(), model.decoder.map.bias.detach()
    x = torch.randn(6, 1, 1, 3)
    out = model(Batch(x), k=20_000)
    assert torch.equal(out.rate(), torch.zeros_like(out.rate())) and out.bounded
    assert torch.equal(out.log_w(), out.log_px)
    d, s2 = x.flatten(1) - b, 0.49
    expected = -0.5 * (d.square().sum(1) + a.square().sum()) / s2 - 1.5 * math.log(2 * math.pi * s2)
    assert torch.allclose(out.log_px.mean(0), expected, atol=0.1)
    exact = torch.distributions.MultivariateNormal(b, a @ a.T + s2 * torch.eye(3)).log_prob(x.flatten(1))
    assert (expected < exact).all()
    assert torch.allclose(model.score(Batch(x), k=20_000, chunk=5_000), exact, atol=0.1)


@pytest.mark.parametrize("name", [cls.__name__ for cls in registered(DensityPrior)])
def test_a_prior_stands_alone_or_is_refused(name: str) -> None:
    prior = EXAMPLES[name]()
    try:
        latent = PriorOnly(prior)
    except UserError as error:
        assert "cannot stand without a posterior" in str(error) and name != "StandardNormal"
        return
    z, (term,) = latent.infer(torch.zeros(4, 0))
    assert len(z) == 4 and torch.equal(term.rate(), torch.zeros(4)) and term.log_p.shape == (4,)
    assert torch.allclose(term.log_p, prior(None).log_prob(z))


def test_a_blind_model_keeps_the_contract_of_models() -> None:
    model = VAE(None, PriorOnly(StandardNormal([3])), vae("mlp").decoder, Gaussian(sigma=0.5, channels=2))
    check_model(scrambled(model), Batch(torch.randint(0, 256, (5, 2, 9, 11), dtype=torch.uint8)))
    x = torch.zeros(2, 2, 9, 11, dtype=torch.uint8)
    for command in (model.encode, model.reconstruct):
        with pytest.raises(UserError, match="no encoder"):
            command(x)


# -- the recipe


def test_the_generator_is_the_decoder_of_conv() -> None:
    for options in ({}, {"scale": 0.5}, {"latent": 7}, {"condition": "class"}):
        data = spec_of([1, 28, 28], classes=("a", "b"))
        one, two = (build_recipe(name, data, **options).model for name in ("gan", "conv"))
        assert spec(one.decoder) == spec(two.decoder) and one.encoder is None
        assert spec(one.latent.prior) == spec(two.latent.prior)


def test_losses_of_the_recipe() -> None:
    data = spec_of([1, 28, 28])
    plain = build_recipe("gan", data).critics["image"]
    assert (plain.gradient_penalty, plain.steps, plain.game.real(torch.tensor(0.0)).item()) == ("real", 1, pytest.approx(math.log(2)))
    recipe = build_recipe("gan", data, knobs={"loss": "wasserstein"})
    critic = recipe.critics["image"]
    loss = spec(critic)["arguments"]["loss"]
    assert (loss, critic.gradient_penalty, critic.steps, critic.strength, recipe.defaults.batch_size) == ("wasserstein", "between", 5, 10.0, 160)
    with pytest.raises(UserError, match="non-saturating or wasserstein"):
        build_recipe("gan", data, knobs={"loss": "hinge"})
    with pytest.raises(UserError, match="a gan has no divergence"):
        build_recipe("gan", data, beta=4.0)
    sides = {12: 2, 28: 3, 64: 4, 128: 5}
    assert {side: len(build_recipe("gan", spec_of([1, side, 8])).critics["image"].net.convolutions) for side in sides} == sides
    with pytest.raises(UserError, match="penalized at real or between"):
        Discriminator([1, 8, 8], gradient_penalty="nowhere")


@pytest.mark.parametrize("shape", [[1, 28, 28], [3, 17, 30], [5, 1, 3], [2, 64, 7]], ids=str)
def test_a_discriminator_takes_any_size(shape: list[int]) -> None:
    critic = Discriminator(shape, [4, 8, 8])
    loss = critic(real=torch.rand(3, *shape), fake=torch.rand(3, *shape))
    assert loss.shape == () and torch.isfinite(loss)
    x = torch.rand(3, *shape)
    assert torch.allclose(critic.logits(x), torch.cat([critic.logits(x[i : i + 1]) for i in range(3)]), atol=1e-5)


def test_several_samples_are_averaged() -> None:
    torch.manual_seed(0)
    model, critic = generator(), linear(shape=(1, 1, 2))
    out: VAEOutput = model(Batch(torch.randn(3, 1, 1, 2)), k=4)
    value = GeneratorLoss(None)(out, critic)
    assert torch.allclose(value, critic.fooled(out.px.mean).view(4, 3).mean(0)) and len(GeneratorLoss(None).feeds(out)["fake"]) == 3
