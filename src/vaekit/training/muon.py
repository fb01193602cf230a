"""Muon: a step of the same size in every direction of a hidden layer's matrix."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaekit.networks.blocks import GatedDense

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
MOMENTUM = 0.95
NARROWEST, WIDEST = 16, 20
"""Features that a layer between hidden ones has on either side at least, and how much wider than high its matrix may be: see `hidden_matrices`."""
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Muon(torch.optim.Optimizer):
    r"""Nesterov momentum whose matrices are made orthogonal, for hidden layers; Adam for all else.

        M <- 0.95 M + 0.05 G,   O = orthogonalized(0.95 M + 0.05 G),   W <- (1 - lr decay) W - 0.2 sqrt(max(r, c)) lr O

    The factor gives the step the size of Adam's, so that one learning rate serves both. A kernel is the matrix of its first dimension by the others.

    References:
        Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024), https://kellerjordan.github.io/posts/muon/
        Muon is Scalable for LLM Training (Liu et al., 2025), Eq. 4 (the factor), https://arxiv.org/abs/2502.16982

    Args:
        matrices: the weights of hidden layers, each with the number of matrices of equal height in it, one above the other.
        adam: the optimizer of the rest.
        weight_decay: of the matrices.
    """

    def __init__(self, matrices: Mapping[Tensor, int], adam: torch.optim.Adam, weight_decay: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__([{"params": list(matrices), "lr": adam.param_groups[0]["lr"], "weight_decay": weight_decay}], {})
        self._stacked, self._dtype = list(matrices.values()), dtype
        self._adam = adam
        self.param_groups += adam.param_groups
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_adam": self._adam, "_stacked": self._stacked, "_dtype": self._dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        """The rest's groups and averages are Adam's own, so that they are saved, put back and set with those of the matrices."""
        self._adam.__setstate__({"state": self.state, "param_groups": self.param_groups[1:]})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self._adam.step()
        group = self.param_groups[0]
        rate = group["lr"]
        moved = [(w, count) for w, count in zip(group["params"], self._stacked, strict=True) if w.grad is not None]
        if not moved:
            return
        weights = [w for w, _ in moved]
        gradients = [w.grad for w in weights]
        for w in weights:
            if w not in self.state:
                self.state[w]["momentum"] = torch.zeros_like(w)
        momenta = [self.state[w]["momentum"] for w in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        steps = torch._foreach_lerp(gradients, momenta, MOMENTUM)
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for (w, count), step in zip(moved, steps, strict=True):
            matrices = step.reshape(count, len(w) // count, -1)
            alike.setdefault((matrices.shape[1], matrices.shape[2]), []).append((w, matrices))
        for shape, found in alike.items():
            stack = [m.float() for _, m in found]
            made = orthogonalized(torch.cat(stack) if len(stack) > 1 else stack[0], self._dtype, 0.2 * max(shape) ** 0.5 * rate)
            for (w, _), o in zip(found, made.split([len(m) for m in stack]), strict=True):
                w.sub_(o.reshape(w.shape))


def orthogonalized(m: Float[Tensor, "N r c"], dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Float[Tensor, "N r c"]:
    r"""About `scale` U V^T for each matrix m = U S V^T: singular values go to between 0.68 and 1.14, those below a thousandth of the norm less far.

    Newton and Schulz's iteration X <- p(X X^T) X with p(A) = a + b A + c A^2, from X = m / |m|. Where a matrix is much wider than high (or the other
    way round), on its Gram matrix alone, with which all of the polynomials commute: A <- p(A) A p(A), P <- p(A) P, and X = P X at the end; that takes
    float32, since the Gram matrix has the squares of the singular values, and P raises what is lost of the smallest by up to a^5 = 485.

    Args:
        dtype: of the plain iteration's products.
    """
    shorter, longer = sorted(m.shape[1:])
    if longer > 3 * shorter:
        return _by_gram(m, scale)
    wide = m if m.shape[1] == shorter else m.mT
    x = _plain((wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp(min=1e-7)).to(dtype)).float().mul_(scale)
    return x if m.shape[1] == shorter else x.mT


def _plain(x: Float[Tensor, "N r c"]) -> Float[Tensor, "N r c"]:
    for _ in range(ITERATIONS):
        x = _polynomial(x @ x.mT) @ x
    return x


def _by_gram(m: Float[Tensor, "N r c"], scale: float) -> Float[Tensor, "N r c"]:
    """Passes over the long side are the Gram matrix's and the last product's alone: the norm is its trace's, and the scale goes into P."""
    wide = m.shape[1] < m.shape[2]
    gram = m @ m.mT if wide else m.mT @ m
    square = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp(min=1e-14)
    gram = gram / square
    product = p = _polynomial(gram)
    for _ in range(ITERATIONS - 1):
        gram = p @ gram @ p
        p = _polynomial(gram)
        product = p @ product
    product = product * (scale / square.sqrt())
    return product @ m if wide else m @ product


def _polynomial(gram: Float[Tensor, "N r r"]) -> Float[Tensor, "N r r"]:
    a, b, c = COEFFICIENTS
    p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    p.diagonal(dim1=1, dim2=2).add_(a)
    return p


def hidden_matrices(module: nn.Module, dense: bool = True) -> dict[Tensor, int]:
    """The weights of linear layers (if `dense`) and convolutions between hidden features, and how many matrices each is: a gated layer is two.

    Left out is what has fewer than `NARROWEST` features on a side (an image's channels, a pixel's parameters, where they are few: so most first and
    last layers, but not all) or is `WIDEST` times as wide as high or
    more (a dense layer that writes several numbers for each pixel), and what is masked place by place, which an orthogonal step does not keep to.
    """
    gated = {id(m.linear) for m in module.modules() if isinstance(m, GatedDense)}
    found: dict[Tensor, int] = {}
    for layer in module.modules():
        w = layer.weight if isinstance(layer, LAYERS) else None
        # A weight that is computed from others (a spectral norm's) is no parameter.
        if isinstance(w, nn.Parameter) and w.requires_grad and (dense or w.dim() > 2) and not hasattr(layer, "mask"):
            count = 2 if id(layer) in gated else 1
            rows, columns = w.shape[0] // count, w[0].numel()
            if min(rows, w.shape[1]) >= NARROWEST and max(rows, columns) < WIDEST * min(rows, columns):
                found[w] = count
    return found
