"""Images with missing pixels: the networks of `conv`, told which pixels are observed, and scored on those alone."""

from typing import Any

from vaekit.errors import UserError
from vaekit.model import VAE
from vaekit.networks import ResNetDecoder, ResNetEncoder
from vaekit.objectives import IWAE
from vaekit.recipes.conv import dimensions, stages, training
from vaekit.recipes.recipe import Recipe, Setting, recipe


@recipe(
    "missing",
    year=2019,
    paper="MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets (Mattei, Frellsen)",
    url="https://arxiv.org/abs/1812.02633",
    good_for="images of which parts are missing (--missing alpha, nan, or a share): learns from what is there, and 'vaekit impute' fills in the rest",
)
def missing(s: Setting) -> Recipe:
    """Pixels that are missing are not scored, and the encoder is told which they are. The model learns from incomplete images as if from parts of
    whole ones, without filling anything in first. `vaekit impute` then gives several answers for what is missing.
    """
    samples = s.knob("samples", 1)
    if samples > 1:
        s.refuse_weight("with several samples it is a bound as it stands")
        if s.sigma == "optimal":
            raise UserError("An optimal sigma is measured with one sample for each image: take --sigma learned, or a number.")
    channels, height, width = s.data.shape
    latent = dimensions(s)
    options: dict[str, Any] = {
        "widths": [s.wide(24 * 2**i) for i in range(stages(s, patch=2, smallest=4))],
        "blocks": s.deep(1),
        "patch": 2,
        "dense": s.wide(256),
        "shortcut": s.wide(300) if s.data.dimensions <= 4096 else 0,
    }
    model = s.vae(
        latent,
        # The mask stands beside the image as C more channels.
        lambda condition: ResNetEncoder([2 * channels, height, width], condition=condition, **options),
        lambda output, condition: ResNetDecoder(latent, output, condition=condition, **options),
        sigma="optimal" if samples == 1 else "learned",
    )
    seeing = VAE(model.encoder, model.latent, model.decoder, model.likelihood, model.condition, sees_mask=True)
    return Recipe(seeing, s.objective(warmup=0.1) if samples == 1 else IWAE(samples), defaults=training(s))
