"""Contracts of objectives, penalties and whole models."""

import torch
from torch import Tensor

from vaekit.model import VAE, evaluating, total_log_prob
from vaekit.objectives import Objective
from vaekit.output import Batch, LatentTerm, VAEOutput, fold
from vaekit.penalties import Critic, Penalty
from vaekit.testing.parts import check_gradients, check_spec
from vaekit.training.task import ANSWERS


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


def check_penalty(penalty: Penalty, model: VAE, batch: Batch, critic: Critic | None = None) -> None:
    """Finite, with a gradient for the model and none for the critic that it asks; what it feeds that critic is detached."""
    if critic is not None:
        critic.requires_grad_(False)
    out = model(batch)
    for name in penalty.asks:
        out.asked[name] = ANSWERS[name](model, out)
    value = penalty(out, critic)
    assert value.shape in {(), (len(batch),)} and torch.isfinite(value).all()
    assert value.requires_grad, "A penalty without gradient teaches nothing."
    assert not any(t.requires_grad for t in penalty.feeds(out).values()), "What feeds a critic must be detached."


def check_model(model: VAE, batch: Batch) -> None:
    """Shapes, the spec round trip, a gradient for every parameter, and independence of the batch: size, order and duplicates."""
    check_spec(model)
    out = model(batch)
    penalty = out.penalty()
    check_gradients(model, (out.distortion + out.rate() + (0.0 if penalty is None else penalty)).mean())
    assert out.log_px.shape == (1, len(batch)) and out.rate().shape == (1, len(batch))
    with evaluating(model), torch.no_grad():
        means = _at_means(model, batch)
        alone = torch.cat([_at_means(model, batch[i : i + 1]) for i in range(len(batch))])
        assert torch.allclose(means, alone, rtol=1e-4, atol=1e-2), "The ELBO of an image depends on its batch."
        k = model(batch, k=3)
        assert k.log_px.shape == (3, len(batch)) and k.log_w().shape == (3, len(batch))
        image = (len(batch), *batch.x.shape[1:])
        condition = batch.condition
        assert model.sample(len(batch), condition=condition).shape == image
        if model.encoder is not None:
            assert model.reconstruct(batch).shape == image
            assert model.decode(model.encode(batch), condition=condition).mean.shape == image
        assert model.score(batch, k=5, chunk=2).shape == (len(batch),)


def _at_means(model: VAE, batch: Batch) -> Tensor:
    """distortion + rate [B] with the posterior's mean for a code: no noise, so that batches can be compared."""
    c = model.embed(batch.condition)
    d, terms = model.latent.infer(model._features(batch, c), anchors=model.anchors(), c=c, mean=True)
    log_px = total_log_prob(model.likelihood(model.decoder(d, c)), model.likelihood.target(batch.x), batch.mask)
    rates = [term.rate() for term in terms]
    return sum(rates[1:], rates[0]) - log_px


def _repeated(out: VAEOutput, times: int) -> VAEOutput:
    """The output for the batch repeated, with the same noise."""

    def again(values: Tensor) -> Tensor:
        return values.view(out.k, -1, *values.shape[1:]).repeat(1, times, *[1] * (values.dim() - 1)).flatten(0, 1)

    terms = []
    for term in out.terms:
        copy = LatentTerm(again(term.z), term.q, term.p, None if term.penalty is None else again(term.penalty))
        copy._cache = {"log_q": again(term.log_q), "log_p": again(term.log_p), "kl": None if term.kl is None else again(term.kl)}
        if term.q is not None:
            copy._cache["log_q_stopped"] = again(term.log_q_stopped)
        terms.append(copy)
    return VAEOutput(out.batch.map(lambda t: fold(t, times)), out.px, out.log_px.repeat(1, times), tuple(terms), out.k)
