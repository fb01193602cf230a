"""A generator against its discriminator: the two losses of a GAN."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vaekit.errors import UserError
from vaekit.networks.condition import Condition
from vaekit.networks.critics import WholeNet
from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput, fold
from vaekit.part import Part
from vaekit.penalties.gan import GANCritic, game
from vaekit.penalties.gradient_penalty import between, one_lipschitz, r1, squared_gradient_norms
from vaekit.penalties.tools import ImagePenalty, differentiable_mean, per_image

PENALIZED = ("real", "between")


class Discriminator(GANCritic):
    """Tells real images from a generator's as a whole, in network units, with a gradient penalty.

    * loss "non-saturating", gradient_penalty "real": E[softplus(-D(x))] + E[softplus(D(G(z)))] + strength / 2 E|grad D(x)|^2 (R1).
    * loss "wasserstein", gradient_penalty "between": E[D(G(z))] - E[D(x)] + strength E[(|grad D(y)| - 1)^2], y on lines between the two (WGAN-GP).

    With several steps for one of the model, each sees another part of the batch, as if it had drawn a batch of its own. It has no norms, which would
    make the verdict on an image depend on the others. With a `condition` it judges whether the image is real and of this class.

    References:
        Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018), Eq. 1 and 9, https://arxiv.org/abs/1801.04406
        Improved Training of Wasserstein GANs (Gulrajani et al., 2017), Eq. 3, https://arxiv.org/abs/1704.00028
        cGANs with Projection Discriminator (Miyato, Koyama, 2018), section 3, https://arxiv.org/abs/1802.05637

    Args:
        shape: (C, H, W) of the images.
        widths: channels after each halving.
        loss: "non-saturating", "wasserstein" or "hinge".
        gradient_penalty: where the gradient is penalized: at "real" images (R1), or "between" real ones and fakes (its distance from norm 1).
        strength: gamma of R1, lambda of WGAN-GP; per squared logit and squared network unit.
        condition: embeds what images are told; None for an unconditional model.
        share: of the images of a batch at which the gradient is penalized: the mean over fewer of them is the same in expectation, and such a
            gradient costs about as much as all the rest.
        lr: learning rate, None for the run's.
        steps: of the discriminator for each step of the model.

    Raises:
        UserError: for an unknown loss or place, and a share that is none.
    """

    betas: tuple[float, float] | None = (0.0, 0.99)

    def __init__(
        self,
        shape: Sequence[int],
        widths: Sequence[int] = (32, 64, 128),
        loss: str = "non-saturating",
        gradient_penalty: str = "real",
        strength: float = 1.0,
        condition: Condition | None = None,
        share: float = 1.0,
        lr: float | None = None,
        steps: int = 1,
    ) -> None:
        super().__init__(lr, steps)
        if gradient_penalty not in PENALIZED:
            raise UserError(f"The gradient of a discriminator is penalized at {' or '.join(PENALIZED)}, and not at '{gradient_penalty}'.")
        if not 0 < share <= 1:
            raise UserError(f"The gradient is penalized at a share of the images, above 0 and at most 1, and not {share}.")
        self.game, self.gradient_penalty, self.strength, self.share = game(loss), gradient_penalty, strength, share
        self.condition = condition
        self.net = WholeNet(list(shape), list(widths), 0 if condition is None else condition.features)

    def logits(self, x: Float[Tensor, "N C H W"], condition: Shaped[Tensor, "N *F"] | None = None) -> Float[Tensor, "N"]:
        """The verdict on each image: the higher, the more real."""
        told = None if self.condition is None or condition is None else self.condition(condition)
        return self.net(x, told).float()

    def fooled(self, x: Float[Tensor, "N C H W"], condition: Shaped[Tensor, "N *F"] | None = None) -> Float[Tensor, "N"]:
        """The generator's loss at each of its images."""
        return self.game.fooled(self.logits(x, condition))

    def parts(self, feed: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
        """As many parts of the batch as there are steps (fewer where there are too few images)."""
        split = {name: value.chunk(self.steps) for name, value in feed.items()}
        for i in range(min(map(len, split.values()))):
            yield {name: values[i] for name, values in split.items()}

    def forward(  # type: ignore[override]
        self, real: Float[Tensor, "B C H W"], fake: Float[Tensor, "B C H W"], condition: Shaped[Tensor, "B *F"] | None = None
    ) -> Float[Tensor, ""]:
        n = math.ceil(self.share * len(real))
        told = None if condition is None else condition[:n]
        places = real[:n] if self.gradient_penalty == "real" else between(real[:n], fake[:n])
        squared = squared_gradient_norms(lambda x: self.logits(x, told), places)
        penalty = (r1 if self.gradient_penalty == "real" else one_lipschitz)(squared, self.strength)
        return self.game.real(self.logits(real, condition)).mean() + self.game.fake(self.logits(fake, condition)).mean() + penalty


class GeneratorLoss(ImagePenalty):
    """What the discriminator makes of the model's images (its `fooled`): softplus(-D(G(z))) non-saturating, -D(G(z)) for a Wasserstein critic.

    G(z) is the mean of p(x|z) at the codes of the pass, which are draws of the prior in a model with `PriorOnly`. With two levels it is a draw,
    b ~ Bernoulli(mean), whose gradient is the mean's (straight through): bits beside probabilities would be told apart by that alone.

    Missing pixels are missing in both, as in AmbientGAN.

    References:
        Generative Adversarial Nets (Goodfellow et al., 2014), section 3, https://arxiv.org/abs/1406.2661
        AmbientGAN: Generative models from lossy measurements (Bora et al., 2018), section 4, https://openreview.net/forum?id=Hy7fDog0b
        Estimating or Propagating Gradients Through Stochastic Neurons (Bengio et al., 2013), https://arxiv.org/abs/1308.3432

    Raises:
        UserError: where the recipe has no critic "image".
    """

    critic = "image"

    def __init__(
        self, levels: int | None, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, weight: float | Schedule = 1.0
    ) -> None:
        super().__init__(levels, mean, std, weight)

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        if not isinstance(critic, Discriminator):
            raise self.missing_critic()
        condition = out.batch.condition
        return per_image(critic.fooled(self.made(out), None if condition is None else fold(condition, out.k)), out)

    def made(self, out: VAEOutput) -> Float[Tensor, "N C H W"]:
        """The model's images, as the discriminator sees them."""
        x = self.units.to_unit(differentiable_mean(out.px))
        if self.units.levels == 2:
            x = torch.bernoulli(x.detach()) + x - x.detach()
        return self.seen(out, x, out.k)

    @staticmethod
    def seen(out: VAEOutput, x: Float[Tensor, "N C H W"], k: int = 1) -> Float[Tensor, "N C H W"]:
        """0 where a pixel of the batch is missing: what a real image does not show, no fake shows, so that the two do not differ by their holes."""
        return x if out.batch.mask is None else torch.where(fold(out.batch.mask, k), x, 0.0)

    def feeds(self, out: VAEOutput) -> Mapping[str, Tensor]:
        feed = {"real": self.seen(out, self.images(out)).detach(), "fake": self.made(out)[: len(out.batch)].detach()}
        return feed if out.batch.condition is None else feed | {"condition": out.batch.condition}
