"""The contracts that every part of vaekit keeps, for your own parts too.

Each `check_*` raises `AssertionError` with a sentence that says what is wrong. They are what vaekit's own suite runs over its registry.

>>> from vaekit.testing import check_posterior
>>> check_posterior(MyPosterior(features=8, latent=3), torch.randn(16, 8))
"""

import math

import torch
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.distributions.kl import kl_divergence, stopped
from vaekit.latents import DensityPrior, Latent, Posterior, StandardNormal
from vaekit.likelihoods import Likelihood
from vaekit.model import VAE, evaluating
from vaekit.objectives import Objective
from vaekit.output import Batch, VAEOutput, fold
from vaekit.part import Part, build, spec
from vaekit.penalties import Penalty


def check_spec(part: Part) -> None:
    """`build(spec(part))` is the same architecture: the weights load, and it is described by the same JSON."""
    description = spec(part)
    again = build(description)
    assert spec(again) == description, f"{type(part).__name__} is described differently after it was built again."
    again.load_state_dict(part.state_dict())


def check_gradients(module: torch.nn.Module, loss: Tensor) -> None:
    """Every parameter of `module` gets a finite gradient from `loss`, and no parameter is left without."""
    module.zero_grad(set_to_none=True)
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient."
        assert torch.isfinite(parameter.grad).all(), f"{name} has a gradient that is not finite."


def check_posterior(posterior: Posterior, h: Tensor, samples: int = 20000) -> None:
    """rsample carries gradient; the analytic divergence equals a Monte-Carlo estimate within its error; the entropy too.

    Args:
        h: features [N, F] of a few images.
    """
    q = posterior(h)
    z = q.rsample()
    assert z.shape == (len(h), *posterior.event_shape), f"A sample has the shape {tuple(z.shape)}, and the event is {posterior.event_shape}."
    assert q.log_prob(z).shape == (len(h),), "log q(z|x) must be summed over the event: one number for each image."
    check_gradients(posterior, (z**2).sum() + q.log_prob(z).sum())
    with torch.no_grad():
        p = StandardNormal(list(posterior.event_shape))()
        draws = q.sample((samples,))
        log_q, log_p = q.log_prob(draws), p.log_prob(draws)
        kl = kl_divergence(q, p)
        if kl is not None:
            _agree(kl.flatten(1).sum(1), log_q - log_p, "The analytic divergence")
            assert (kl >= -1e-5).all(), "A divergence is below 0."
            _agree(q.entropy(), -log_q, "The analytic entropy")
    # Gradient through the sample alone: the score of q at its own parameters has mean zero, and is removed here.
    path = stopped(q).log_prob(q.rsample())
    assert path.shape == (len(h),)


def check_prior(prior: DensityPrior, samples: int = 200_000) -> None:
    """The density integrates to 1 (importance sampling from a wide Gaussian), and the samples have the density's mean log-probability."""
    p = prior()
    shape = p.event_shape
    with torch.no_grad():
        wide = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(shape), torch.full(shape, 1.5)), len(shape))
        z = wide.sample((samples,))
        weights = (p.log_prob(z) - wide.log_prob(z)).exp()
        _agree(torch.tensor(1.0), weights, "The integral of the density")
        mine = prior.sample(samples)
        assert mine.shape == (samples, *shape)
        _agree(p.log_prob(p.sample((samples,))).mean(), p.log_prob(mine), "The mean log-probability of the prior's samples")
        assert torch.allclose(prior.loss(mine[:8]), -p.log_prob(mine[:8])), "loss(code) is not -log p(code)."
        cold = prior.sample(2000, temperature=0.01)
        assert cold.std() < mine[:2000].std(), "A low temperature does not narrow the samples."


def check_latent(latent: Latent, h: Tensor) -> None:
    """`generate` with the inferred code gives the decoder what `infer` gave it; infer never looks beyond one image."""
    with evaluating(latent), torch.no_grad():
        d, terms = latent.infer(h, mean=True)
        code = tuple(term.z for term in terms)
        assert torch.allclose(latent.generate(len(h), code=code), d), "generate(code) is not what infer handed to the decoder."
        alone, _ = latent.infer(h[:1], mean=True)
        assert torch.allclose(alone, d[:1], atol=1e-5), "The code of an image depends on its neighbours in the batch."
        assert latent.generate(5).shape == (5, *d.shape[1:])
        for term in terms:
            assert term.log_q.shape == term.log_p.shape == (len(h),)


def check_likelihood(likelihood: Likelihood, data: DataSpec, x: Tensor) -> None:
    """Shapes, ranges, and gradients; a pmf with independent channels sums to 1 over its levels.

    Args:
        x: a few raw images [B,C,H,W] of `data`.
    """
    channels, height, width = data.shape
    params = torch.randn(len(x), likelihood.channels(channels), height, width, requires_grad=True)
    px = likelihood(params)
    target = likelihood.target(x)
    log_px = px.log_prob(target)
    assert log_px.shape in {(len(x), channels, height, width), (len(x), 1, height, width)}
    assert torch.isfinite(log_px).all()
    (gradient,) = torch.autograd.grad(log_px.sum(), params, retain_graph=True)
    assert torch.isfinite(gradient).all()
    for name in ("mean", "mode"):
        value = getattr(px, name)
        assert value.shape == x.shape, f"The {name} has the shape {tuple(value.shape)}, and the images {tuple(x.shape)}."
        if data.levels is not None:
            assert (value >= 0).all() and (value <= data.levels - 1).all(), f"The {name} leaves the range of the pixels."
    assert px.sample().shape == x.shape
    assert likelihood.input(x).dtype == torch.float32 and likelihood.input(x).abs().max() < 100
    if likelihood.kind == "pmf":
        assert (log_px <= 1e-6).all(), "A probability is above 1."
        if log_px.shape[1] == channels and data.levels is not None:
            total = torch.stack([px.log_prob(torch.full_like(target, v)) for v in range(data.levels)]).logsumexp(0)
            assert total.abs().max() < 1e-4, "The probabilities of the levels do not sum to 1."


def check_objective(objective: Objective, model: VAE, batch: Batch) -> None:
    """[B] finite nats with gradients, the same for an image whatever its batch, and for a duplicated batch."""
    with evaluating(model):
        torch.manual_seed(0)
        out = model(batch, k=objective.samples)
        loss = objective(out)
        assert loss.shape == (len(batch),), f"An objective gives one number for each image, and this gave {tuple(loss.shape)}."
        assert torch.isfinite(loss).all()
        doubled = _repeated(out, 2)
        twice = objective(doubled)
        assert torch.allclose(twice.mean(), loss.mean(), rtol=1e-5, atol=1e-3), "The loss changes when the batch is duplicated."
        check_gradients(model, loss.mean())


def check_penalty(penalty: Penalty, model: VAE, batch: Batch) -> None:
    """Finite, with a gradient for the model; what it feeds a critic is detached."""
    out = model(batch)
    value = penalty(out)
    assert value.shape in {(), (len(batch),)} and torch.isfinite(value).all()
    assert value.requires_grad, "A penalty without gradient teaches nothing."
    assert not any(t.requires_grad for t in penalty.feeds(out).values()), "What feeds a critic must be detached."


def check_model(model: VAE, batch: Batch) -> None:
    """Shapes, the spec round trip, a gradient for every parameter, and independence of the batch: size, order and duplicates."""
    check_spec(model)
    out = model(batch)
    check_gradients(model, (out.distortion + out.rate()).mean())
    assert out.log_px.shape == (1, len(batch)) and out.rate().shape == (1, len(batch))
    with evaluating(model), torch.no_grad():
        means = _with_mean_codes(model, batch)
        alone = torch.cat([_with_mean_codes(model, batch[i : i + 1]) for i in range(len(batch))])
        assert torch.allclose(means, alone, rtol=1e-4, atol=1e-2), "The ELBO of an image depends on its batch."
        k = model(batch, k=3)
        assert k.log_px.shape == (3, len(batch)) and k.log_w().shape == (3, len(batch))
        image = (len(batch), *batch.x.shape[1:])
        assert model.reconstruct(batch).shape == image
        condition = batch.condition
        assert model.sample(len(batch), condition=condition).shape == image
        assert model.decode(model.encode(batch), condition=condition).mean.shape == image
        assert model.score(batch, k=5, chunk=2).shape == (len(batch),)


def _with_mean_codes(model: VAE, batch: Batch) -> Tensor:
    """distortion + rate [B] at the posterior's mean: no noise, so that batches can be compared."""
    px = model.decode(model.encode(batch), condition=batch.condition)
    torch.manual_seed(0)
    rate = model(batch).rate()[0]
    return rate - px.log_prob(model.likelihood.target(batch.x)).flatten(1).sum(1)


def _repeated(out: VAEOutput, times: int) -> VAEOutput:
    """The output for the batch repeated, with the same noise."""
    from vaekit.output import LatentTerm

    def again(values: Tensor) -> Tensor:
        return values.view(out.k, -1, *values.shape[1:]).repeat(1, times, *[1] * (values.dim() - 1)).flatten(0, 1)

    terms = []
    for term in out.terms:
        copy = LatentTerm(again(term.z), term.q, term.p)
        copy._cache = {"log_q": again(term.log_q), "log_p": again(term.log_p), "kl": None if term.kl is None else again(term.kl)}
        if term.q is not None:
            copy._cache["log_q_stopped"] = again(term.log_q_stopped)
        terms.append(copy)
    return VAEOutput(out.batch.map(lambda t: fold(t, times)), out.px, out.log_px.repeat(1, times), tuple(terms), out.k)


def _agree(exact: Tensor, draws: Tensor, what: str) -> None:
    """The mean of the draws [S, ...] is within five standard errors of the exact value."""
    mean, error = draws.mean(0), draws.std(0) / math.sqrt(len(draws))
    worst = ((mean - exact).abs() / (error + 1e-6)).max().item()
    assert worst < 5, f"{what} is {worst:.1f} standard errors from its Monte-Carlo estimate."


__all__ = [
    "check_gradients",
    "check_latent",
    "check_likelihood",
    "check_model",
    "check_objective",
    "check_penalty",
    "check_posterior",
    "check_prior",
    "check_spec",
]
