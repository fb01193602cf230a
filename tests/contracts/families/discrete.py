"""Discrete latents."""

from vaekit.latents.discrete import Discrete
from vaekit.latents.priors.code_transformer import CodeTransformer
from vaekit.latents.priors.codes import CodePrior, UniformCodes
from vaekit.latents.quantizers import FSQ, LFQ, EMAVectorQuantizer, GroupedQuantizer, ResidualQuantizer, VectorQuantizer
from vaekit.networks.maps import MapDecoder, MapEncoder

EXAMPLES = {
    "Discrete": lambda: Discrete(ResidualQuantizer([VectorQuantizer(8, 5), VectorQuantizer(8, 5)]), UniformCodes([2], 5)),
    "UniformCodes": lambda: UniformCodes([2, 1, 2], 3),
    "CodePrior": lambda: CodePrior([2, 1, 2], 3, hidden=8, layers=2),
    "CodeTransformer": lambda: CodeTransformer([2, 1, 2], 3, width=8, blocks=1, heads=2),
    "VectorQuantizer": lambda: VectorQuantizer(4, 7),
    "EMAVectorQuantizer": lambda: EMAVectorQuantizer(4, 7),
    "ResidualQuantizer": lambda: ResidualQuantizer([EMAVectorQuantizer(4, 7), EMAVectorQuantizer(4, 7)]),
    "GroupedQuantizer": lambda: GroupedQuantizer([EMAVectorQuantizer(1, 7), VectorQuantizer(3, 7)]),
    "FSQ": lambda: FSQ([8, 5, 3, 4]),
    "LFQ": lambda: LFQ(4),
    "MapEncoder": lambda: MapEncoder([2, 9, 11], 4, [4, 8]),
    "MapDecoder": lambda: MapDecoder(4, [2, 9, 11], [4, 8]),
}
