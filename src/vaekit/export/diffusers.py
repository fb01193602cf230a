"""A tokenizer as an `AutoencoderKL` or a `VQModel` of diffusers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.evaluation.passes import Batches, Progress, passes
from vaekit.export.target import target, whole
from vaekit.latents import Flat
from vaekit.latents.discrete import Discrete
from vaekit.latents.posteriors.gaussian_map import GaussianMap
from vaekit.latents.quantizers import EMAVectorQuantizer, VectorQuantizer
from vaekit.model import VAE
from vaekit.networks.diffusers import DiffusersDecoder, DiffusersEncoder
from vaekit.output import Batch


@dataclass(frozen=True)
class CodeScale:
    """Mean and standard deviation of all numbers of the codes together, draws of q(z|x) or features before they are quantized."""

    mean: float
    std: float
    images: int

    @property
    def factor(self) -> float:
        """What brings the codes to a standard deviation of 1."""
        return 1 / max(self.std, 1e-12)


def code_scale(model: VAE, batches: Batches, *, seed: int = 0, progress: Progress | None = None) -> CodeScale:
    """The scale of the codes of these images, as diffusers' `encode` gives them.

    References: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), appendix G, https://arxiv.org/abs/2112.10752
    """

    def compute(batch: Batch) -> Tensor:
        h = model._encode(batch, None)
        if isinstance(model.latent, Discrete):
            z = model.latent._standardized(h)
        else:
            z = model.latent.infer(h)[1][0].z
        each = z.double().flatten(1)
        return torch.stack([each.sum(1), each.square().sum(1), torch.full((len(z),), float(each.shape[1]), dtype=torch.double)], dim=1).cpu()

    sums = torch.cat(list(passes(model, batches, compute, seed=seed, progress=progress)))
    total, squares, count = sums.sum(0).tolist()
    mean = total / count
    return CodeScale(mean, max(squares / count - mean**2, 0.0) ** 0.5, len(sums))


def to_diffusers(model: VAE, spec: DataSpec, scale: CodeScale, folder: str | Path) -> str:
    """Writes `config.json` and `diffusion_pytorch_model.safetensors`, which `from_pretrained(folder)` loads; returns the name of diffusers' class.

    Images stand on [-1,1] there: x / 127.5 - 1 for 8 bits. `encode` gives the code of `model.encode` (a `VQModel`'s features are quantized as it
    decodes), and `decode` the mean of p(x|z). `scaling_factor` is 1 / std of the codes and `shift_factor` their mean, as they were measured.

    Args:
        folder: new, or empty.

    Raises:
        UserError: for a model that is none of diffusers', in one sentence that says why; for a folder that holds something or cannot be written.
    """
    if (why := refusal(model, spec)) is not None:
        raise UserError(f"This model cannot be an autoencoder of diffusers: {why}.")
    place = target(folder)
    import diffusers

    encoder, decoder, latent = model.encoder, model.decoder, model.latent
    assert isinstance(encoder, DiffusersEncoder) and isinstance(decoder, DiffusersDecoder)
    tensors = {f"encoder.{k}": v for k, v in encoder.net.state_dict().items()}
    tensors |= {f"decoder.{k}": v for k, v in decoder.net.state_dict().items()}
    tensors |= {f"post_quant_conv.{k}": v for k, v in decoder.post_quant_conv.state_dict().items()}
    config = _config(encoder, spec) | {"scaling_factor": scale.factor}
    if isinstance(latent, Discrete):
        tensors |= _quantizer(encoder, latent)
        config |= {"latent_channels": latent.quantizer.channels, "num_vq_embeddings": latent.quantizer.size}
        made: Any = diffusers.VQModel(**config)
    else:
        assert isinstance(latent, Flat) and isinstance(latent.posterior, GaussianMap)
        tensors |= {f"quant_conv.{k}": v for k, v in latent.posterior.head.state_dict().items()}
        made = diffusers.AutoencoderKL(**config, latent_channels=latent.posterior.shape[0], shift_factor=scale.mean)
    made.load_state_dict(tensors)
    with whole(place) as folder:
        made.save_pretrained(folder, safe_serialization=True)
    return type(made).__name__


def refusal(model: VAE, spec: DataSpec) -> str | None:
    """Why a model is none of diffusers', as the end of a sentence; None if it is one."""
    latent = model.latent
    if not (isinstance(model.encoder, DiffusersEncoder) and isinstance(model.decoder, DiffusersDecoder)):
        name = type(model.decoder).__name__
        return f"its networks are others ({name}), and the recipes tokenizer-kl and tokenizer-vq have those of diffusers"
    if model.condition is not None:
        return "it is told a condition, and those of diffusers are not: train it without --condition"
    if spec.levels is None:
        return "its images are floats, and diffusers' are pixels on [-1,1]"
    quantized = isinstance(latent, Discrete) and isinstance(latent.quantizer, (VectorQuantizer, EMAVectorQuantizer))
    mapped = isinstance(latent, Flat) and isinstance(latent.posterior, GaussianMap)
    if not (quantized or mapped):
        return f"its latent ({type(latent).__name__}) is neither a map of Gaussians nor a single codebook"
    units, half = getattr(model.likelihood, "units", None), (spec.levels - 1) / 2
    if units is None or units.levels is not None or any(float(v) != half for v in (*units.mean.flatten(), *units.std.flatten())):
        return "its likelihood does not take the network's output for the mean of pixels on [-1,1]"
    return None


def _config(encoder: DiffusersEncoder, spec: DataSpec) -> dict[str, Any]:
    """What both classes are told."""
    kept = encoder._arguments
    channels, height, width = spec.shape
    return {
        "in_channels": channels,
        "out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(kept["widths"]),
        "up_block_types": ("UpDecoderBlock2D",) * len(kept["widths"]),
        "block_out_channels": tuple(kept["widths"]),
        "layers_per_block": kept["layers"],
        "norm_num_groups": kept["groups"],
        "mid_block_add_attention": kept["attention"],
        "sample_size": max(height, width),
    }


def _quantizer(encoder: DiffusersEncoder, latent: Discrete) -> dict[str, Tensor]:
    """The codebook, and `quant_conv` with the standardization of the features in it: (W h + b - mean) / std is a 1x1 convolution too."""
    conv, quantizer = encoder.quant_conv, latent.quantizer
    assert isinstance(conv, torch.nn.Conv2d) and conv.bias is not None
    assert isinstance(quantizer, (VectorQuantizer, EMAVectorQuantizer))
    weight = conv.weight / latent.std.view(-1, 1, 1, 1)
    bias = (conv.bias - latent.mean) / latent.std
    return {"quant_conv.weight": weight, "quant_conv.bias": bias, "quantize.embedding.weight": quantizer.codebook}
