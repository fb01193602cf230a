"""Examples of the priors that stand inside the bound."""

import torch

from vaekit.latents.fitted import Fitted
from vaekit.latents.priors import AutoregressivePrior, ExemplarPrior, FlowPrior, MixturePrior, VampPrior
from vaekit.latents.priors.flow_matching import FlowMatching
from vaekit.latents.priors.full_mixture import FullMixturePrior
from vaekit.networks.velocity import VelocityMLP
from vaekit.networks.velocity_unet import VelocityUNet
from vaekit.part import Part
from vaekit.recipes.second_stage import second_stage


def moved(part: Part, by: float = 0.2) -> Part:
    """Away from the start, which is the standard normal for some."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return part


EXAMPLES = {
    "MixturePrior": lambda: moved(MixturePrior(2, components=5)),
    "FullMixturePrior": lambda: moved(FullMixturePrior(2, components=3)),
    "FlowPrior": lambda: moved(FlowPrior(2, "maf", transforms=2, hidden=8)),
    "AutoregressivePrior": lambda: moved(AutoregressivePrior(2, hidden=8, components=3)),
    "VampPrior": lambda: VampPrior([1, 4, 5], components=4),
    "FlowMatching": lambda: FlowMatching(VelocityMLP(2, width=8, blocks=1)),
    "VelocityMLP": lambda: VelocityMLP(2, width=8, blocks=1),
    "VelocityUNet": lambda: VelocityUNet([2, 3, 2], [8, 8], blocks=1),
    "TwoStage": lambda: second_stage("two-stage", [2]).model.prior,
    "Fitted": lambda: Fitted(MixturePrior(2, components=3), [2]),
    "ExemplarPrior": lambda: ExemplarPrior([1, 4, 5], exemplars=6, per_step=3),
}
