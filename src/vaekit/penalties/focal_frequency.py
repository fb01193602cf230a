"""A distance between spectra that looks at what is still wrong."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FocalFrequency(nn.Module):
    """sum_(c,u,v) w(u,v) |F_x(u,v) - F_y(u,v)|^2 with w = |F_x - F_y|^alpha, divided by its largest value in the channel, without gradient.

    F is the unitary transform, so that with alpha = 0 it is the squared distance of the images (Parseval), a sum over values; the weight turns
    the loss to the frequencies that are farthest off. It is the paper's mean times the number of values.

    References: Focal Frequency Loss for Image Reconstruction and Synthesis (Jiang et al., 2021), Eq. 8 and 9, https://arxiv.org/abs/2012.12821
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Float[Tensor, "N C H W"], y: Float[Tensor, "N C H W"]) -> Float[Tensor, "N"]:
        # The transform is linear: that of the difference is the difference of the two.
        squared = torch.view_as_real(torch.fft.fft2((x - y).float(), norm="ortho")).square().sum(-1)
        with torch.no_grad():
            weight = squared ** (0.5 * self.alpha)
            weight = weight / weight.amax((2, 3), keepdim=True).clamp_min(1e-12)
        return (weight * squared).flatten(1).sum(1)
