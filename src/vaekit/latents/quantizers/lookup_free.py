"""The sign of each channel."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vaekit.errors import UserError
from vaekit.latents.quantizers.base import Quantized, Quantizer, per_image, straight_through


class LFQ(Quantizer):
    r"""z_q = sign(h): 2^F codes and no codebook, with entropies that make each choice sure and the choices many.

    Penalty per image, in nats: w (sum over positions of H[p(code|h)] - positions H[mean of p(code|h)]) + beta sum (h - sg[sign h])^2.
    p(code|h) is proportional to exp(-||h - code||^2 / temperature), so that its bits are independent, with logits 4 h / temperature.
    The mean is over all positions of all images of this process's batch: the second entropy is that of the batch, in each image's share.

    References: Language Model Beats Diffusion: Tokenizer is Key to Visual Generation (Yu et al., 2023), section 3.1, https://arxiv.org/abs/2310.05737

    Args:
        channels: F, at most 16: the batch entropy is over all 2^F codes. Group several for more.
        entropy: w.
        beta: weight of the commitment.
    """

    bits: Tensor

    def __init__(self, channels: int, entropy: float = 0.1, beta: float = 0.25, temperature: float = 1.0) -> None:
        super().__init__()
        if channels > 16:
            raise UserError(f"LFQ takes 16 channels at most (2^16 codes), and {channels} were asked for: use groups.")
        self.channels, self.size = channels, 2**channels
        self.entropy, self.beta, self.temperature = entropy, beta, temperature
        codes = torch.arange(self.size).unsqueeze(1) >> torch.arange(channels)
        self.register_buffer("bits", (codes & 1).float(), persistent=False)

    def forward(self, h: Float[Tensor, "N F *S"]) -> Quantized:
        h = h.float()
        signs = torch.where(h.detach() > 0, 1.0, -1.0)
        weights = (2 ** torch.arange(self.channels, device=h.device)).view(-1, *[1] * (h.dim() - 2))
        indices = ((signs > 0).long() * weights).sum(1, keepdim=True)
        penalty = self.entropy * self.entropies(h) + self.beta * per_image((h - signs).square())
        return Quantized(straight_through(signs, h), indices, penalty)

    def entropies(self, h: Float[Tensor, "N F *S"]) -> Float[Tensor, "N"]:
        """Sum over positions of H[p(code|h)], less positions times H[mean of p(code|h)], in nats."""
        with torch.autocast(h.device.type, enabled=False):
            logits = (4 / self.temperature * h).movedim(1, -1)
            one, zero = F.logsigmoid(logits), F.logsigmoid(-logits)
            own = -(one.exp() * one + zero.exp() * zero)
            joint = (one.flatten(0, -2) @ self.bits.t() + zero.flatten(0, -2) @ (1 - self.bits).t()).exp()
            p = joint.mean(0)
            shared = -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum()  # the slope of p log p at 0 is infinite
            return per_image(own) - (h.numel() // h.shape[0] // self.channels) * shared

    def lookup(self, indices: Int[Tensor, "N Q *S"]) -> Float[Tensor, "N F *S"]:
        return 2 * self.bits[indices[:, 0]].movedim(-1, 1) - 1
