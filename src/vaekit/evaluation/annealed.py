"""Annealed importance sampling: log p(x) of a decoder, whether or not the encoder has learned where its codes are."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.errors import UserError
from vaekit.evaluation.passes import Batches, Progress, passes
from vaekit.latents import Flat
from vaekit.latents.fitted import Fitted
from vaekit.model import VAE, total_log_prob
from vaekit.output import Batch, fold

TARGET = 0.65
"""The acceptance that the step size is tuned to (Neal, MCMC using Hamiltonian dynamics, 2011)."""
PILOTS = 4
"""Chains for each image that tune the step sizes and are then thrown away."""
WARM = 20
"""Transitions of the pilots before the path begins."""
LIMITS = -9.0, 2.0
"""Of the log of a step, as a multiple of the start's width."""


def ais(
    model: VAE,
    batches: Batches,
    steps: int = 300,
    chains: int = 8,
    leapfrog: int = 5,
    *,
    begin: str | None = None,
    chunk: int = 8,
    seed: int = 0,
    start: int = 0,
    precision: str = "fp32",
    progress: Progress | None = None,
    total: int | None = None,
) -> Float[Tensor, "n"]:
    """log p(x) of each image by annealed importance sampling, [n] nats (float64, on the CPU).

    Each chain goes from a density that can be sampled, r(z), to p(z) p(x|z) by way of r^(1-t) (p(z) p(x|z))^t, with one Hamiltonian transition
    at each t: log w = sum_i (t_i - t_(i-1)) (log p(z,x) - log r(z)) at the code before each transition. The mean of w over the chains has the
    mean p(x), so that its logarithm, which is what is returned, is a lower bound of log p(x) in expectation. One step is the
    importance-weighted bound with as many samples as there are chains; more steps make it tighter. `mean_and_se` gives the mean over the images
    and its error.

    The size of the transitions' steps is tuned beforehand, for each image and each t, on chains of its own: the chains that count are not
    adapted by what they see, and the estimate stays unbiased.

    Cost: leapfrog * steps * (chains + 4) passes of the decoder with gradient for each image; with the values above that is the work of
    a bound with about 40,000 samples. Take it for a few hundred images.

    Args:
        steps: temperatures of the path.
        chains: for each image.
        leapfrog: steps of one transition.
        begin: "posterior" or "prior", the density r; None for the posterior where its density is cheap at any code, else the prior.
        chunk: how many of the chains are in memory at once; another number is another draw of the noise.
        batches, seed, start, precision, progress, total: see `passes`.

    Raises:
        UserError: for a model without one real code for each image and a density of it, or whose likelihood is not normalized.

    References:
        Annealed Importance Sampling (Neal, 2001), section 2, https://arxiv.org/abs/physics/9803008
        On the Quantitative Analysis of Decoder-Based Generative Models (Wu et al., 2017), https://arxiv.org/abs/1611.04273
    """
    posterior = _posterior(model, begin)
    if min(steps, chains, leapfrog, chunk) < 1:
        raise UserError("steps, chains, leapfrog and chunk are whole numbers of at least 1.")
    times = temperatures(steps)

    def compute(batch: Batch) -> Tensor:
        with torch.no_grad():
            tuned = tuned_steps(path_of(model, batch, min(PILOTS, chains), posterior), times, leapfrog, len(batch)) if steps > 1 else []
            parts = []
            for first in range(0, chains, chunk):
                count = min(chunk, chains - first)
                parts.append(_run(path_of(model, batch, count, posterior), times, leapfrog, tuned).view(count, -1))
            return torch.cat(parts).logsumexp(0) - math.log(chains)

    values = passes(model, batches, compute, seed=seed, start=start, precision=precision, progress=progress, total=total)
    return torch.cat([v.cpu() for v in values]).double()


def _posterior(model: VAE, begin: str | None) -> bool:
    """Whether the path begins at the posterior."""
    latent, name = model.latent, type(model.latent).__name__
    if not isinstance(latent, Flat) or latent.posterior.support != "reals" or "vector" not in latent.gives:
        what = type(latent.posterior).__name__ if isinstance(latent, Flat) else name
        raise UserError(f"Annealed importance sampling needs one real vector with a prior density for each image, and {what} gives something else.")
    if model.likelihood.kind == "energy":
        raise UserError(f"{type(model.likelihood).__name__} is not a normalized likelihood: there is no log p(x) to estimate.")
    if begin not in (None, "posterior", "prior"):
        raise UserError(f"The path begins at the 'posterior' or the 'prior', and not at '{begin}'.")
    able = {"density", "anywhere"} <= latent.gives
    if begin == "posterior" and not able:
        raise UserError(f"The density of {type(latent.posterior).__name__} is not cheap at any code: begin at the prior.")
    return able if begin is None else begin == "posterior"


def temperatures(steps: int) -> list[float]:
    """0 to 1, close together at both ends, where the path bends most (Wu et al.)."""
    values = torch.sigmoid(4 * torch.linspace(-1, 1, steps + 1, dtype=torch.float64))
    return ((values - values[0]) / (values[-1] - values[0])).tolist()


@dataclass
class _State:
    """Codes [N, *E], with both log-densities [N] and their gradients [N, *E] there."""

    z: Tensor
    start: Tensor
    joint: Tensor
    start_slope: Tensor
    joint_slope: Tensor

    def at(self, t: float) -> tuple[Tensor, Tensor]:
        """The log-density of the path at t, and its gradient."""
        return torch.lerp(self.start, self.joint, t), torch.lerp(self.start_slope, self.joint_slope, t)

    def where(self, accepted: Tensor, other: "_State") -> "_State":
        def pick(name: str) -> Tensor:
            old, new = getattr(self, name), getattr(other, name)
            return torch.where(accepted.view(-1, *[1] * (old.dim() - 1)), new, old)

        return _State(*(pick(name) for name in self.__dataclass_fields__))


@dataclass
class _Path:
    """Where the chains of a batch begin, and where they go."""

    z: Tensor
    width: Tensor
    """The scale of the momentum's inverse: the start's standard deviation."""
    look: Callable[[Tensor], _State]


def path_of(model: VAE, batch: Batch, count: int, posterior: bool, fitted: Fitted | None = None) -> _Path:
    """`count` chains for each image, at draws of their start; with `fitted` p(z) is that prior's, which has a density (`Fitted.weighs`)."""
    c, anchors = model.embed(batch.condition), model.anchors(batch.index)
    out = model._observe(batch, model._encode(batch, c), c, anchors, count)
    term = out.terms[0]
    c = None if c is None else fold(c, count)
    target = fold(model.likelihood.target(batch.x), count)
    mask = None if batch.mask is None else fold(batch.mask, count)
    begin: Distribution | None = term.q if posterior else term.p
    if begin is None or term.p is None:
        raise UserError("Annealed importance sampling needs a prior density, and this model has none.")
    prior: Callable[[Tensor], Tensor] = term.p.log_prob
    if fitted is not None:
        told = None if batch.condition is None or fitted.condition is None else fold(batch.condition, count)
        prior = lambda z: fitted.log_prob(z, told)  # noqa: E731
        z = term.z if posterior else fitted.sample(len(target), condition=told, in_turn=False)
    elif posterior:
        z = term.z
    elif anchors is not None and anchors.same is not None:  # each image's prior leaves its own exemplar out
        z = term.p.sample()
    else:
        z = model.latent.prior_codes(len(target), anchors=anchors, c=c)
    width = torch.ones_like(z) if fitted is None else fitted.std.expand_as(z)
    if posterior:
        width = begin.variance.clamp_min(1e-12).sqrt() if "moments" in model.latent.gives else torch.ones_like(z)

    def look(z: Tensor) -> _State:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            log_p = prior(z)
            joint = total_log_prob(model.likelihood(model.decoder(z, c)), target, mask) + log_p
            start = begin.log_prob(z) if posterior else log_p
            slopes = [torch.autograd.grad(v.sum(), z, retain_graph=True)[0].float() for v in (start, joint)]
        return _State(z.detach(), start.detach().float(), joint.detach().float(), slopes[0], slopes[1])

    return _Path(z.detach(), width.detach(), look)


def transition(path: _Path, state: _State, t: float, step: Tensor, leapfrog: int) -> tuple[_State, Tensor]:
    """One Hamiltonian transition at t with steps [N], and the probability [N] with which it was accepted."""
    value, slope = state.at(t)
    # The length is drawn, so that no chain goes round and round on an orbit.
    step = (step * (0.8 + 0.4 * torch.rand_like(step))).view(-1, *[1] * (state.z.dim() - 1)) * path.width
    momentum = torch.randn_like(state.z)
    energy = 0.5 * momentum.square().flatten(1).sum(1) - value
    new = state
    for _ in range(leapfrog):
        momentum = momentum + 0.5 * step * slope
        new = path.look(new.z + step * momentum)
        value, slope = new.at(t)
        momentum = momentum + 0.5 * step * slope
    accept = (energy - 0.5 * momentum.square().flatten(1).sum(1) + value).clamp_max(0).exp()
    # A trajectory that left the range of float32 is one that is never accepted.
    accept = torch.nan_to_num(accept, nan=0.0)
    return state.where(torch.rand_like(accept) < accept, new), accept


def tuned_steps(path: _Path, times: list[float], leapfrog: int, images: int) -> list[Tensor]:
    """The steps [B] for each time of the path but the ends, found by chains that are then thrown away."""
    state, log_step, tuned = path.look(path.z), path.z.new_full((images,), math.log(0.3)), []
    count = len(path.z) // images
    for i, t in enumerate([0.0] * WARM + times[1:-1]):
        state, accept = transition(path, state, t, fold(log_step.exp(), count), leapfrog)
        rate = 0.5 if i < WARM else 0.15
        log_step = (log_step + rate * (accept.view(count, -1).mean(0) - TARGET)).clamp(*LIMITS)
        if i >= WARM:
            tuned.append(log_step.exp())
    return tuned


def _run(path: _Path, times: list[float], leapfrog: int, tuned: list[Tensor]) -> Float[Tensor, "N"]:
    """log w of each chain."""
    state, log_w = path.look(path.z), torch.zeros_like(path.z.flatten(1)[:, 0])
    for i in range(1, len(times)):
        log_w = log_w + (times[i] - times[i - 1]) * (state.joint - state.start)
        if i < len(times) - 1:
            step = tuned[i - 1]
            state, _ = transition(path, state, times[i], fold(step, len(path.z) // len(step)), leapfrog)
    return log_w
