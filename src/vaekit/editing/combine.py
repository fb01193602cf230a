"""Images made of several: arithmetic on codes, and the coarse layers of one with the fine layers of another."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.editing.codes import decoded, need, same_condition, vectors
from vaekit.errors import UserError
from vaekit.model import VAE
from vaekit.output import Batch


@torch.no_grad()
def arithmetic(model: VAE, a: Batch | Tensor, b: Batch | Tensor, c: Batch | Tensor) -> Float[Tensor, "B C H W"]:
    """What a has and b has not, given to c: the mean of p(x | z_a - z_b + z_c) in raw values, image by image.

    Raises `UserError` for codes that are not real numbers, batches of different lengths, and images of different conditions.

    References: Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (Radford et al., 2016), section 6.3.2,
    https://arxiv.org/abs/1511.06434
    """
    need(model, "Arithmetic")
    batches = [Batch.of(x).to(model.device) for x in (a, b, c)]
    _same_length(batches)
    condition = same_condition(*batches)
    (first, layout), (second, _), (third, _) = (vectors(model, batch) for batch in batches)
    # In this order a - a is 0 exactly, and the result c.
    return decoded(model, (first - second + third).unsqueeze(1), layout, condition)[:, 0]


@torch.no_grad()
def mix(model: VAE, coarse: Batch | Tensor, fine: Batch | Tensor, layers: int) -> Float[Tensor, "B C H W"]:
    """The first `layers` codes of one image and the other codes of another: the mean of p(x | z_<k of coarse, z_>=k of fine) in raw values.

    With 0 layers it is the reconstruction of `fine`, with all of them that of `coarse`. The fine codes are those that their own image has, as they
    are: a ladder reads them as numbers, not as differences from what its prior says below the other image's codes.

    Raises `UserError` for a model of one layer, a number of layers that it does not have, and images of different conditions.

    References: A Style-Based Generator Architecture for Generative Adversarial Networks (Karras et al., 2019), section 3.1 (mixing),
    https://arxiv.org/abs/1812.04948; on ladders, Very Deep VAEs (Child, 2020), https://arxiv.org/abs/2011.10650
    """
    batches = [Batch.of(x).to(model.device) for x in (coarse, fine)]
    _same_length(batches)
    condition = same_condition(*batches)
    above, below = (model.encode(batch) for batch in batches)
    if len(above) < 2:
        raise UserError("Mixing takes some layers from each image, and this model has one layer: train one with --recipe ladder.")
    if not 0 <= layers <= len(above):
        raise UserError(f"This model has {len(above)} layers, so that 0 to {len(above)} of them are coarse, and not {layers}.")
    return model.decode(above[:layers] + below[layers:], condition=condition).mean.float().cpu()


def _same_length(batches: list[Batch]) -> None:
    sizes = [len(batch) for batch in batches]
    if len(set(sizes)) > 1:
        raise UserError(f"Images are combined one by one, and there are {', '.join(map(str, sizes))} of them: give as many on each side.")
