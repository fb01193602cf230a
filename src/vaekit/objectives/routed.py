"""Bounds whose gradient is not the derivative of their value: one weight for p, one for the path through z, one for q itself."""

import functools
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.objectives.base import Objective
from vaekit.objectives.weights import grouped, log_mean, normalized, whole, with_penalty
from vaekit.output import LatentTerm, VAEOutput


class STL(Objective):
    """-(1/K) sum_k log w_k, in nats per image, with the parameters of q held fixed in log q(z|x): sticking the landing.

    What is left out, the score of q at its own sample, has mean zero: the gradient is that of the ELBO, and it is exactly 0, for every
    sample, where q(z|x) is p(z|x). Far from there it is no less noisy than the ELBO with its divergence in closed form.

    References: Sticking the Landing (Roeder et al., 2017), algorithm 2, https://arxiv.org/abs/1703.09194

    Args:
        samples: K.
    """

    needs = frozenset({"density", "stopped"})

    def __init__(self, samples: int = 1) -> None:
        super().__init__()
        self.samples = whole("samples", samples)

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        log_w = out.log_px
        for term in out.terms:
            log_w = log_w + (term.log_p - term.log_q_stopped).view(out.k, -1)
        return with_penalty(-log_w.mean(0), out)


class DReG(Objective):
    """-log (1/K) sum_k w_k, in nats per image, with the doubly reparameterized gradient for the encoder.

    With the normalized weights W_k = w_k / sum_j w_j, held fixed:

    * the decoder and the prior get sum_k W_k d log p(x, z_k), as in IWAE;
    * the encoder gets sum_k W_k^2 (d log w_k / d z_k) (d z_k / d phi), and nothing of the score of q. Its mean is that of IWAE, and its signal
      does not drown as K grows.

    It costs what IWAE costs and one more backward pass from the decoder's output to z.

    References: Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives (Tucker et al., 2018), the IWAE-DReG estimator,
        https://arxiv.org/abs/1810.04152

    Args:
        samples: K.

    Raises:
        UserError: for a model with several stochastic layers.
    """

    needs = frozenset({"density", "stopped", "single"})

    def __init__(self, samples: int = 5) -> None:
        super().__init__()
        self.samples = whole("samples", samples)

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        log_w = out.log_w()
        weight = normalized(log_w)
        return with_penalty(routed(out, log_mean(log_w), decoder=weight, path=weight.square()), out)


class PIWAE(Objective):
    """-log (1/MK) sum_mk w_mk, in nats per image: the decoder and the prior learn from this bound, the encoder from MIWAE's with M groups of K.

    References: Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), "New estimators",
        https://arxiv.org/abs/1802.04537

    Args:
        groups: M.
        samples: K in each group.

    Raises:
        UserError: for a model with several stochastic layers.
    """

    needs = frozenset({"density", "stopped", "single"})

    def __init__(self, groups: int = 2, samples: int = 4) -> None:
        super().__init__()
        self.groups = whole("groups", groups)
        self.samples = self.groups * whole("samples", samples)

    def forward(self, out: VAEOutput) -> Float[Tensor, "B"]:
        log_w = out.log_w()
        within = grouped(log_w, self.groups)
        encoder = (normalized(within) / within.shape[1]).view(out.k, -1)
        return with_penalty(routed(out, log_mean(log_w), decoder=normalized(log_w), path=encoder, direct=encoder), out)


def routed(
    out: VAEOutput,
    bound: Float[Tensor, "B"],
    *,
    decoder: Float[Tensor, "K B"],
    path: Float[Tensor, "K B"],
    direct: Float[Tensor, "K B"] | None = None,
) -> Float[Tensor, "B"]:
    """A loss [B] whose value is -bound and whose gradient is that of -log w_k under three sets of fixed weights, [K, B] each.

    Args:
        decoder: for what holds z fixed in log p(x|z_k) + log p(z_k): the decoder and the prior.
        path: for what goes through z_k, with the parameters of q held fixed in log q(z_k|x).
        direct: for the parameters of q in log q(z_k|x), with z_k held fixed; None for nothing.

    Raises:
        UserError: for several stochastic layers, or a code without a density.
    """
    term = _only(out)
    log_joint = out.log_px + term.log_p.view(out.k, -1)
    log_q_path = term.log_q_stopped.view(out.k, -1)
    # Of the first sum, too much flows through z: `decoder` where it should be `path`.
    total = path * log_q_path - decoder * log_joint + _through(term, ((decoder - path) * log_joint).sum()).view(out.k, -1)
    if direct is not None:
        total = total + direct * (term.log_q.view(out.k, -1) - log_q_path)
    total = total.sum(0)
    return -bound.detach() + (total - total.detach())


def _only(out: VAEOutput) -> LatentTerm:
    if len(out.terms) != 1 or out.terms[0].q is None:
        raise UserError("This objective takes a model with one stochastic layer that has a density: take IWAE or STL for any other.")
    return out.terms[0]


def _through(term: LatentTerm, total: Tensor) -> Float[Tensor, "N"]:
    return _outside_of_graphs()(term, total)


@functools.cache
def _outside_of_graphs() -> Callable[[LatentTerm, Tensor], Tensor]:
    """Not a decorator: it imports torch's compiler, which takes longer than all of vaekit."""
    return torch.compiler.disable(_slope)


def _slope(term: LatentTerm, total: Tensor) -> Float[Tensor, "N"]:
    """(d total / d z) . z with the first factor held fixed: to what made z it is what `total` is, and the rest of the model sees nothing of it.

    The decoder has been run on z before, and cannot be told apart from its input in the same backward pass. A hook that rescales the gradient
    of z could, and would rescale that of the penalties too; this needs a pass of its own, and works beside anything.

    Raises:
        UserError: in a compiled step, where z and log p(x|z) come out of one node side by side, and what is between them cannot be seen.
    """
    if not torch.is_grad_enabled() or not term.z.requires_grad or not total.requires_grad:
        return term.z.new_zeros(term.z.shape[0])
    if _compiled(term.z):
        raise UserError("This objective looks inside the model's backward pass, which a compiled step hides: train it without --compile.")
    (slope,) = torch.autograd.grad(total, term.z, retain_graph=True, allow_unused=True)
    return term.z.new_zeros(term.z.shape[0]) if slope is None else (slope * term.z).flatten(1).sum(1)


def _compiled(z: Tensor) -> bool:
    """Whether z comes out of a compiled graph, or is a view of what does."""
    node = z.grad_fn
    for _ in range(4):
        if "Compiled" in type(node).__name__:
            return True
        if node is None or not node.next_functions:
            return False
        node = node.next_functions[0][0]
    return False
