"""Critics of images and of codes, and the penalties that ask them."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.networks.critics import CodeNet, PatchNet
from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput, fold
from vaekit.part import Part
from vaekit.penalties.base import Penalty
from vaekit.penalties.gan import GANCritic, game
from vaekit.penalties.tools import ImagePenalty, codes, per_image


class ImageCritic(GANCritic):
    """Tells images from the means of p(x|z), patch by patch, in network units.

    References: Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2016), section 3.2.2, https://arxiv.org/abs/1611.07004

    Args:
        channels: of the images, of any size.
        widths: channels after each convolution with stride 2.
        loss: "hinge" or "non-saturating".
        lr: learning rate, None for the run's.
        steps: of the critic for each step of the model.

    Raises:
        UserError: for an unknown loss.
    """

    def __init__(self, channels: int, widths: Sequence[int] = (32, 64, 128), loss: str = "hinge", lr: float | None = 4e-4, steps: int = 1) -> None:
        super().__init__(lr, steps)
        self.game = game(loss)
        self.net = PatchNet(channels, list(widths))

    def fooled(self, features: Float[Tensor, "N F h w"]) -> Float[Tensor, "N"]:
        """The opponent's loss, a mean over the patches of each image, given `net.features`."""
        return self.game.fooled(self.net.logits(features).float()).mean(1)

    def forward(self, real: Float[Tensor, "B C H W"], fake: Float[Tensor, "M C H W"]) -> Tensor:  # type: ignore[override]
        """The critic's loss: the mean over real and over fake patches."""
        logits = [self.net.logits(self.net.features(x)) for x in (real, fake)]
        return self.game.real(logits[0]).mean() + self.game.fake(logits[1]).mean()


class Adversarial(ImagePenalty):
    """adversarial [g(m) + g(m')] / 2 + matching 1/2 |f(x) - f(m)|^2, in nats: m the mean of a reconstruction, m' that of a draw from the prior.

    g is what the critic "image" makes of a fake (its `fooled`), f its last features, summed. The gradient of reconstructions reaches the encoder too;
    in the paper the encoder learns of the critic by its features alone. With two levels the critic sees zeros and ones beside probabilities, and
    presses these to the ends.

    References: Autoencoding beyond pixels using a learned similarity metric (Larsen et al., 2015), Eq. 4-8, https://arxiv.org/abs/1512.09300

    Args:
        levels, mean, std: see `ImagePenalty`.
        adversarial: nats for one unit of the critic's logit.
        matching: weight of the features.

    Raises:
        UserError: where the recipe has no critic "image".
    """

    critic = "image"
    asks: ClassVar[frozenset[str]] = frozenset({"prior_images"})

    def __init__(
        self,
        levels: int | None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        adversarial: float = 1.0,
        matching: float = 0.0,
        weight: float | Schedule = 1.0,
    ) -> None:
        super().__init__(levels, mean, std, weight)
        self.adversarial, self.matching = adversarial, matching

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        if not isinstance(critic, ImageCritic):
            raise self.missing_critic()
        features = critic.net.features(self.means(out))
        drawn = critic.net.features(self.means(out, out.asked["prior_images"]))
        value = 0.5 * self.adversarial * (per_image(critic.fooled(features), out) + critic.fooled(drawn))
        if self.matching == 0:
            return value
        with torch.no_grad():
            wanted = fold(critic.net.features(self.images(out)), out.k)
        return value + self.matching * per_image(0.5 * (features - wanted).float().flatten(1).square().sum(1), out)

    def feeds(self, out: VAEOutput) -> Mapping[str, Tensor]:
        fake = torch.cat([self.means(out)[: len(out.batch)], self.means(out, out.asked["prior_images"])])
        return {"real": self.images(out).detach(), "fake": fake.detach()}


class CodeCritic(GANCritic):
    """Tells draws from the prior from codes.

    References: Adversarial Autoencoders (Makhzani et al., 2015), section 2, https://arxiv.org/abs/1511.05644

    Args:
        latent: D, the number of latent dimensions.
        width, depth: of the hidden layers.
        loss: "hinge" or "non-saturating".
        lr: learning rate, None for the run's.
        steps: of the critic for each step of the model.

    Raises:
        UserError: for an unknown loss.
    """

    def __init__(self, latent: int, width: int = 256, depth: int = 2, loss: str = "non-saturating", lr: float | None = 4e-4, steps: int = 1) -> None:
        super().__init__(lr, steps)
        self.game = game(loss)
        self.net = CodeNet(latent, width, depth)

    def fooled(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N"]:
        """The encoder's loss."""
        return self.game.fooled(self.net(z).float())

    def forward(self, codes: Float[Tensor, "B D"], prior: Float[Tensor, "B D"]) -> Tensor:  # type: ignore[override]
        return self.game.real(self.net(prior)).mean() + self.game.fake(self.net(codes)).mean()


class CodeAdversary(Penalty):
    """What the critic "code" makes of the codes: it falls as q(z) comes to look like p(z). With the non-saturating loss, -E log D(z), in nats.

    The critic learns on codes of the whole batch; the figure of an image depends on its own code alone.

    References: Adversarial Autoencoders (Makhzani et al., 2015), section 2, https://arxiv.org/abs/1511.05644

    Raises:
        UserError: where the recipe has no critic "code".
    """

    critic = "code"
    needs: ClassVar[frozenset[str]] = frozenset({"vector"})
    asks: ClassVar[frozenset[str]] = frozenset({"prior_codes"})

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        if not isinstance(critic, CodeCritic):
            raise self.missing_critic()
        return critic.fooled(codes(out))

    def feeds(self, out: VAEOutput) -> Mapping[str, Tensor]:
        return {"codes": codes(out).detach(), "prior": out.asked["prior_codes"].flatten(1).detach()}
