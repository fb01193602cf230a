"""Tokenizers: the losses against closed forms and the papers' own units, what a critic can do at worst, and the networks against known sizes."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.contracts.examples import batch, raw, scrambled, spec_of, vae
from tests.contracts.families.tokenizers import needs_diffusers
from vaekit.distributions.pixel_gaussian import PixelGaussian
from vaekit.distributions.pixel_laplace import PixelLaplace
from vaekit.errors import UserError
from vaekit.likelihoods import Laplace
from vaekit.objectives import ELBO
from vaekit.output import Batch, VAEOutput
from vaekit.penalties import MSSSIM, ImageCritic, Onset, PatchAdversarial, Perceptual
from vaekit.penalties.focal_frequency import FocalFrequency
from vaekit.recipes import build_recipe
from vaekit.recipes.tokenizers import symmetric
from vaekit.training.critics import Critics
from vaekit.training.options import Training
from vaekit.training.task import Task

NAMES = ["tokenizer-kl", "tokenizer-vq"]


@pytest.fixture
def diffusers() -> None:
    needs_diffusers()


# ---- focal frequency


def test_focal_frequency_by_hand() -> None:
    """A 2 x 2 difference [[4, 2], [0, 2]] has the unitary transform [[4, 0], [2, 2]]: weights 1, 0, 1/2, 1/2, and 16 + 0 + 2 + 2 = 20."""
    y = torch.tensor([[[[4.0, 2.0], [0.0, 2.0]]]])
    assert FocalFrequency()(y, torch.zeros_like(y)).item() == pytest.approx(20.0, rel=1e-6)
    assert FocalFrequency(2.0)(torch.zeros_like(y), y).item() == pytest.approx(16 + 4 / 4 + 4 / 4, rel=1e-6)


def test_focal_frequency_is_the_papers_sum_for_each_image() -> None:
    x, y = torch.rand(3, 2, 6, 5), torch.rand(3, 2, 6, 5)
    expected = []
    for a, b in zip(x.numpy(), y.numpy(), strict=True):
        total = 0.0
        for c in range(2):
            f = (np.fft.fft2(a[c]) - np.fft.fft2(b[c])) / math.sqrt(30)
            w = np.abs(f) / np.abs(f).max()
            total += (w * np.abs(f) ** 2).sum()
        expected.append(total)
    assert np.allclose(FocalFrequency()(x, y).numpy(), expected, rtol=1e-4)
    assert torch.allclose(FocalFrequency(0.0)(x, y), (x - y).square().sum((1, 2, 3)), rtol=1e-4), "Parseval: without a weight, the squared distance"
    assert FocalFrequency()(x, x).abs().max() == 0


def test_the_focal_weight_has_no_gradient() -> None:
    x, y = torch.rand(1, 1, 4, 4, requires_grad=True), torch.rand(1, 1, 4, 4)
    (gradient,) = torch.autograd.grad(FocalFrequency()(x, y).sum(), x)
    f = torch.fft.fft2((x - y).detach(), norm="ortho")
    w = f.abs() / f.abs().max()
    assert torch.allclose(gradient, 2 * torch.fft.ifft2(w * f, norm="ortho").real, atol=1e-5), "as with a weight that is held"


# ---- what the critic may do


class Pusher(ImageCritic):
    """As strong as can be, and always of one opinion: each image should be brighter, in its left half a thousand times as much."""

    def __init__(self, strength: float = 1e3) -> None:
        super().__init__(1, [2])
        self.strength = strength
        self.net.features = lambda x: x  # type: ignore[method-assign]

    def fooled(self, features: Tensor) -> Tensor:
        half = features.shape[3] // 2
        return -self.strength * (1e3 * features[..., :half].sum((1, 2, 3)) + features[..., half:].sum((1, 2, 3)))


def of(m: Tensor, x: Tensor, kind: str, scale: float) -> VAEOutput:
    """The record of a model whose means are m, whatever the code."""
    log_scale = torch.full((1, 1, 1), math.log(scale))
    px = PixelGaussian(m, log_scale) if kind == "gaussian" else PixelLaplace(m, log_scale)
    return VAEOutput(Batch(x), px, px.log_prob(x).flatten(1).sum(1).unsqueeze(0), ())


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_the_pull_is_a_share_of_the_likelihoods(kind: str) -> None:
    """lambda = pull |r| / |g| for each image by itself, cut at pull times the root mean square of r; the value is lambda A, of nats."""
    x, m = torch.rand(3, 1, 4, 6), torch.rand(3, 1, 4, 6, requires_grad=True)
    critic = ImageCritic(1, [4, 8]).eval()
    penalty = PatchAdversarial(None, [0.0], [1.0], pull=0.4)
    value = penalty(of(m, x, kind, 0.1), critic)
    (gradient,) = torch.autograd.grad(value.sum(), m)
    r = (m - x) / 0.01 if kind == "gaussian" else (m - x).sign() / 0.1
    verdict = critic.fooled(critic.net.features(m))
    (g,) = torch.autograd.grad(verdict.sum(), m)
    for i in range(3):
        scale = 0.4 * r[i].norm() / g[i].norm()
        most = 0.4 * r[i].square().mean().sqrt()
        assert torch.allclose(gradient[i], (scale * g[i]).clamp(-most, most), rtol=1e-4)
        assert torch.allclose(value[i], scale * verdict[i], rtol=1e-4)
        assert gradient[i].norm() <= 0.4 * r[i].norm() * (1 + 1e-5)
        assert (gradient[i] * r[i]).sum() > -(r[i].square().sum()), "a step along both lowers the distortion"
    with torch.no_grad():
        assert penalty(of(m, x, kind, 0.1), critic).abs().max() == 0, "a pass that only measures"


def test_no_critic_ruins_a_gaussian() -> None:
    """The means of one code, against the strongest critic: at rest the squared error is below 1 / (1 - pull^2) of the variance, and near it."""
    torch.manual_seed(1)
    x = 0.2 * torch.randn(200, 1, 4, 4)
    m = torch.zeros(1, 1, 4, 4)
    for pull in (0.5, 0.8):
        for _ in range(60):
            each = m.expand(200, -1, -1, -1).clone().requires_grad_()
            out = of(each, x, "gaussian", 0.2)
            loss = -out.log_px.mean() + PatchAdversarial(None, [0.0], [1.0], pull=pull)(out, Pusher()).mean()
            (gradient,) = torch.autograd.grad(loss, each)
            m = m - 0.03 * gradient.sum(0, keepdim=True)
        ratio = ((x - m).square().mean() / (x - x.mean(0)).square().mean()).item()
        assert m[..., :2].mean() > 0.05, "the critic is heard"
        assert 1 + 0.3 * pull**2 < ratio < 1 / (1 - pull**2)


def test_no_critic_leaves_the_quantiles_of_a_laplace() -> None:
    torch.manual_seed(1)
    x = torch.randn(299, 1, 2, 4)
    m = torch.zeros(1, 1, 2, 4)
    for step in range(150):
        each = m.expand(299, -1, -1, -1).clone().requires_grad_()
        out = of(each, x, "laplace", 0.5)
        loss = -out.log_px.mean() + PatchAdversarial(None, [0.0], [1.0], pull=0.5)(out, Pusher()).mean()
        (gradient,) = torch.autograd.grad(loss, each)
        m = m - 0.3 / (1 + step / 15) * gradient.sum(0, keepdim=True)
    quantile = (x < m).float().mean(0)
    assert (quantile[..., :2] - 0.75).abs().max() < 0.03, "where the critic pulls with all it has"
    assert (quantile > 0.22).all() and (quantile < 0.78).all()


def test_the_critic_needs_a_density_around_the_mean() -> None:
    model, critic = scrambled(vae("mlp")), ImageCritic(2, [4])
    with pytest.raises(UserError, match="choose laplace or gaussian on floats"):
        PatchAdversarial(256)(model(batch(3)), critic)
    for pull in (0.0, 1.0, -1.0):
        with pytest.raises(UserError, match="above 0 and below 1"):
            PatchAdversarial(256, pull=pull)
    with pytest.raises(UserError, match="asks the critic 'image'"):
        PatchAdversarial(256)(model(batch(3)))


def test_the_onset_is_a_function_of_the_fraction() -> None:
    onset = Onset(0.3, 0.1)
    assert [onset.at(f) for f in (0.0, 0.3, 0.4, 1.0)] == [0.0, 0.0, pytest.approx(1.0), 1.0] and onset.at(0.35) == pytest.approx(0.5)
    assert [Onset(0.5, 0.0).at(f) for f in (0.49, 0.5)] == [0.0, 1.0] and Onset(0.0).at(0.0) == 0.0


@pytest.mark.parametrize("k", [1, 3])
def test_neither_learns_from_the_others_loss(k: int) -> None:
    """The critic sees detached images, the model a frozen critic; what is not observed counts as equal, and gets no pull."""
    model = scrambled(vae("mlp", likelihood=Laplace(channels=2)))
    critic = ImageCritic(2, [4, 8])
    penalty = PatchAdversarial(256)
    task = Task(model, ELBO(), (penalty,), {"image": critic})
    x = batch(6)
    mask = torch.rand(x.x.shape) > 0.5
    out = model(Batch(x.x, mask=mask), k=k)
    value = penalty(out, critic)
    assert value.shape == (6,)
    (gradient,) = torch.autograd.grad(value.sum(), out.px.loc, retain_graph=True)
    assert gradient.view(k, 6, *x.x.shape[1:])[:, ~mask].abs().max() == 0 and gradient.abs().max() > 0
    value.sum().backward()
    assert all(p.grad is None for p in critic.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.decoder.named_parameters() if "weight" in n)
    feeds = task(x).feeds["image"]
    assert not any(t.requires_grad for t in feeds.values()) and all(len(t) == 6 for t in feeds.values())


# ---- the losses of the papers, in nats


def test_the_likelihood_is_the_papers_with_a_fitted_logvar() -> None:
    """|d| / exp(s) + s, summed, with d on [-1,1], is -log of a Laplace density but for log(2 * 127.5) a value: 1 unit is 127.5 grey levels."""
    data = symmetric(spec_of([3, 5, 4]))
    likelihood = Laplace.for_data(data, sigma=math.sqrt(2) * 0.07)
    x, y = raw(4, [3, 5, 4]), torch.randn(4, 3, 5, 4)
    s = math.log(0.07)
    theirs = ((x / 127.5 - 1 - y).abs() / math.exp(s) + s).sum((1, 2, 3))
    assert torch.allclose(likelihood.input(x), x / 127.5 - 1, atol=1e-6)
    assert torch.allclose(-likelihood(y).log_prob(likelihood.target(x)).sum((1, 2, 3)), theirs + 60 * math.log(2 * 127.5), rtol=1e-5)
    assert torch.allclose(likelihood(y).mean, 127.5 * (y + 1), rtol=1e-5), "and the mean is what the network gives"
    floats = spec_of([3, 5, 4], None)
    assert symmetric(floats) is floats


def test_the_papers_weight_of_the_divergence_in_nats(diffusers: None) -> None:
    """|d| + 1e-6 KL, the paper's loss with its logvar of 0, has the gradient of b times ours with beta = 1e-6 / b."""
    b = 0.05
    recipe = build_recipe("tokenizer-kl", spec_of([1, 8, 8]), scale=0.25, beta=1e-6 / b, sigma=math.sqrt(2) * b, knobs={"perceptual": "none"})
    model, x = scrambled(recipe.model).eval(), batch(3, [1, 8, 8])
    parameters = list(model.parameters())
    torch.manual_seed(0)
    ours = torch.autograd.grad(b * recipe.objective(model(x)).mean(), parameters)
    torch.manual_seed(0)
    out = model(x)
    error = (model.likelihood.input(x.x) - (out.px.mean / 127.5 - 1)).abs().flatten(1).sum(1)
    theirs = torch.autograd.grad((error + 1e-6 * out.rate()[0]).mean(), parameters)
    assert all(torch.allclose(u, v, rtol=1e-3, atol=1e-5) for u, v in zip(ours, theirs, strict=True))


def test_the_rate_of_indices_is_what_they_cost_to_store(diffusers: None) -> None:
    model = build_recipe("tokenizer-vq", spec_of([1, 10, 9]), scale=0.25, knobs={"codebook": 50}).model
    assert torch.allclose(model(batch(3, [1, 10, 9])).rate(), torch.tensor(3 * 3 * math.log(50)), rtol=1e-5)


# ---- the recipes


@pytest.mark.parametrize("name", NAMES)
def test_the_published_size(name: str, diffusers: None) -> None:
    """Scale 8 with f = 8 is the autoencoder of Stable Diffusion: 83,653,863 weights, groups of 32; all but the codebook is in a VQModel too."""
    from vaekit.networks.diffusers import DiffusersDecoder, DiffusersEncoder

    with torch.device("meta"):
        model = build_recipe(name, spec_of([3, 256, 256]), scale=8, knobs={"f": 8, "adversarial": 0, "perceptual": "none"}).model
    assert isinstance(model.encoder, DiffusersEncoder) and isinstance(model.decoder, DiffusersDecoder)
    options = {k: model.encoder._arguments[k] for k in ("widths", "layers", "groups", "attention")}
    assert options == {"widths": [128, 256, 512, 512], "layers": 2, "groups": 32, "attention": True}
    count = sum(p.numel() for p in model.parameters())
    # conv_out and quant_conv give 4 channels where those of KL give 8.
    assert count == (83_653_863 if name == "tokenizer-kl" else 83_653_863 - 4 * (9 * 512 + 1) - (8 * 8 + 8) + (4 * 4 + 4))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("f", "grid"), [(2, (9, 14)), (4, (5, 7)), (8, (3, 4)), (16, (2, 2)), (32, (1, 1))], ids=str)
def test_the_code_is_a_map_of_any_size(name: str, f: int, grid: tuple[int, int], diffusers: None) -> None:
    """17 x 28: padded inside, and exactly the image is scored."""
    model = build_recipe(name, spec_of([2, 17, 28]), scale=0.25, latent=3, knobs={"f": f}).model
    out = model(batch(2, [2, 17, 28]))
    assert out.terms[0].z.shape == ((2, 3, *grid) if name == "tokenizer-kl" else (2, 1, *grid))
    assert out.px.mean.shape == (2, 2, 17, 28)


def test_slices_and_padding_change_nothing(diffusers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaekit.networks import diffusers as networks

    model = scrambled(build_recipe("tokenizer-kl", spec_of([1, 10, 9]), scale=0.25).model).eval()
    x = raw(5, [1, 10, 9])
    with torch.no_grad():
        whole = model.reconstruct(x)
        monkeypatch.setattr(networks, "PIXELS", 180)
        assert torch.allclose(whole, model.reconstruct(x), atol=1e-3)
        padded = nn.functional.pad(x.float(), (0, 3, 0, 2), mode="replicate").byte()
        assert torch.allclose(model.encode(x)[0], model.encode(padded)[0], atol=1e-5)


def test_the_decoder_starts_from_the_mean_colour(diffusers: None) -> None:
    model = build_recipe("tokenizer-kl", spec_of([3, 16, 16]), scale=0.25).model
    x = raw(64, [3, 16, 16])
    model.initialize(x)
    assert torch.allclose(model.decoder.net.conv_out.bias, (x.float() / 127.5 - 1).mean((0, 2, 3)), atol=1e-5)


def test_knobs(diffusers: None) -> None:
    data = spec_of([1, 16, 16])
    plain = build_recipe("tokenizer-kl", data, scale=0.25)
    assert [type(p) for p in plain.penalties] == [Perceptual, PatchAdversarial] and set(plain.critics) == {"image"}
    assert plain.objective.beta.item() == pytest.approx(0.01) and plain.select == "last"
    assert plain.penalties[1].schedule.at(0.3) == 0.0 and plain.penalties[1].schedule.at(1.0) == 1.0
    alone = build_recipe("tokenizer-kl", data, scale=0.25, knobs={"adversarial": 0, "perceptual": "none"})
    assert alone.penalties == () and not alone.critics
    chosen = build_recipe("tokenizer-vq", data, scale=0.25, knobs={"perceptual": "ms-ssim", "adversarial": 0})
    assert [type(p) for p in chosen.penalties] == [MSSSIM] and chosen.penalties[0].schedule.at(1.0) == 256.0
    focal = build_recipe("tokenizer-vq", data, scale=0.25, knobs={"perceptual": "focal-frequency", "strength": 3.0})
    assert isinstance(focal.penalties[0]._distance[0], FocalFrequency) and focal.penalties[0].schedule.at(1.0) == 3.0
    for options, sentence in (
        ({"knobs": {"f": 3}}, "one of 2, 4, 8, 16, 32, and it is 3"),
        ({"knobs": {"start": 2}}, "below 1, and it is 2"),
        ({"knobs": {"strength": -1}}, "give 0 or more"),
        ({"likelihood": "mixture"}, "laplace or gaussian"),
        ({"knobs": {"adversarial": 1.5}}, "above 0 and below 1"),
        ({"knobs": {"perceptual": "none.pt"}}, "or a TorchScript or ONNX file, and 'none.pt' is neither"),
    ):
        with pytest.raises(UserError, match=sentence):
            build_recipe("tokenizer-kl", data, scale=0.25, **options)


def test_an_onnx_network_needs_a_converter_and_a_network(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="onnx2torch"):
        Perceptual(256, features=str(tmp_path / "net.onnx"))


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_with_all_terms(name: str, diffusers: None) -> None:
    """The task with its critic in either precision; the distortion falls while an overpowered critic pulls from the first step."""
    torch.manual_seed(0)
    tiles = nn.functional.interpolate(torch.randint(0, 2, (16, 1, 2, 2)).float(), size=(8, 8))
    x = Batch((255 * tiles).byte(), index=torch.arange(16))
    recipe = build_recipe(name, spec_of([1, 8, 8]), scale=0.5, knobs={"start": 0.0, "critic_lr": 0.01})
    critics = Critics(recipe.critics, Training(), torch.device("cpu"))
    task = Task(recipe.model, recipe.objective, recipe.penalties, recipe.critics)
    task.initialize(x)
    task.progress(1.0)
    optimizer = torch.optim.Adam(task.parameters(), lr=5e-3)
    errors = []
    for _ in range(20):
        step = task(x)
        (step.loss / 64).backward()
        optimizer.step()
        optimizer.zero_grad()
        task.post_step(step.stats)
        losses = critics.step(step.feeds)
        errors.append((recipe.model.reconstruct(x).clamp(0, 255) - x.x).square().mean().item())
    assert math.isfinite(losses["critic_image"]) and errors[-1] < 0.8 * errors[0], errors
    task.precision = "bf16"
    assert torch.isfinite(task(x).loss)
