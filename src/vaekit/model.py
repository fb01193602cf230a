"""`VAE`: the one model class. Every variant is a choice of its parts."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Distribution

from vaekit.device import unrounded
from vaekit.errors import UserError
from vaekit.latents.base import Anchors, Features, Latent
from vaekit.latents.fitted import Fitted
from vaekit.likelihoods.base import Likelihood
from vaekit.networks.base import Decoder, Encoder
from vaekit.networks.condition import AttributeCondition, Condition
from vaekit.output import Batch, Images, LatentTerm, VAEOutput, fold
from vaekit.part import Part

Code = tuple[Tensor, ...]
"""One entry for each stochastic layer."""
PASS_ON_PROCESSOR, PASS_ELSEWHERE = 400, 4096
"""Images of up to 28 x 28 that are decoded at once where nothing else is asked for, and as many pixels of larger ones: on a processor their maps stay
in its caches, elsewhere they fill the device."""
DRAWN = 256
"""New images that are decoded at once."""
NO_ENCODER = (
    "This model has no encoder, as a GAN has none: it makes new images, but no codes of given ones to reconstruct, complete, edit or fit a prior to "
    "(--recipe conv and vae-gan do)."
)


class VAE(Part):
    """log p(x) >= E_q(z|x)[log p(x|z)] - KL(q(z|x) || p(z)): a network or a distribution for each symbol.

    Args:
        encoder: from a network input to features; None for a model that only generates.
        latent: q(z|x) and p(z).
        decoder: from codes to the parameters of p(x|z).
        likelihood: p(x|z).
        condition: embeds what the model is told; None for an unconditional model.
        sampler: a prior fitted afterwards to the codes of the first layer; `sample` uses it when there is one.
        sees_mask: missing pixels are 0 in the network input, and the mask stands beside it as C more channels.
    """

    def __init__(
        self,
        encoder: Encoder | None,
        latent: Latent,
        decoder: Decoder,
        likelihood: Likelihood,
        condition: Condition | None = None,
        sampler: Fitted | None = None,
        sees_mask: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.latent = latent
        self.decoder = decoder
        self.likelihood = likelihood
        self.condition = condition
        self.sampler = sampler
        self.sees_mask = sees_mask

    def forward(self, batch: Images, k: int = 1) -> VAEOutput:
        """One pass with k posterior samples for each image, folded into the batch between the encoder and the latent."""
        batch = Batch.of(batch)
        c = self.embed(batch.condition)
        h = self._features(batch, c)
        return self._observe(batch, h, c, self.anchors(batch.index), k)

    def _observe(self, batch: Batch, h: Features, c: Tensor | None, anchors: Anchors | None, k: int) -> VAEOutput:
        c_k = None if c is None else fold(c, k)
        label = batch.label if self.training else None
        d, terms = self.latent.infer(_folded(h, k), anchors=_anchors_for(anchors, k), c=c_k, label=None if label is None else fold(label, k))
        px = self.likelihood(self.decoder(d, c_k))
        target = fold(self.likelihood.target(batch.x), k)
        mask = None if batch.mask is None else fold(batch.mask, k)
        log_px = total_log_prob(px, target, mask)
        stats = {"likelihood": self.likelihood.stats(px, target, mask)} if self.training else {}
        if any(term.stats for term in terms):
            stats["latent"] = {f"{i}.{name}": value for i, term in enumerate(terms) for name, value in term.stats.items()}
        return VAEOutput(batch, px, log_px.view(k, -1), terms, k, stats)

    def embed(self, condition: Tensor | None) -> Tensor | None:
        """The condition as a vector [B, G]; None for an unconditional model."""
        if self.condition is None:
            return None
        if condition is None:
            raise UserError("This model is conditional: give each image its class or attributes (Batch.condition).")
        return self.condition(condition)

    def _features(self, batch: Batch, c: Tensor | None) -> Features:
        """What the latent infers from: the encoder's features, or none at all where q(z|x) = p(z)."""
        return torch.zeros(len(batch), 0, device=batch.x.device) if self.latent.blind else self._encode(batch, c)

    def _encode(self, batch: Batch, c: Tensor | None) -> Features:
        if self.encoder is None:
            raise UserError(NO_ENCODER)
        x = self.likelihood.input(batch.x)
        if self.sees_mask:
            seen = torch.ones_like(x) if batch.mask is None else batch.mask.to(x.dtype)
            x = torch.cat([x * seen, seen], dim=1)
        return self.encoder(x, c)

    def anchors(self, index: Tensor | None = None) -> Anchors | None:
        """What a prior that is made of the posteriors of images needs of this pass, for images with these rows; None for any other prior."""
        prior = self.latent.anchored
        if prior is None or self.encoder is None:
            return None
        images = prior.images()
        if images.raw:
            h = self._encode(Batch(images.x), self.embed(images.condition))
        else:
            x = torch.cat([images.x, torch.ones_like(images.x)], dim=1) if self.sees_mask else images.x
            h = self.encoder(x, images.condition)
        same = None if index is None or images.index is None else index.unsqueeze(1) == images.index
        return Anchors(h, same)

    @torch.no_grad()
    def encode(self, x: Images, *, sample: bool = False) -> Code:
        """The code of each image: the posterior's mean, or a sample of it."""
        batch = Batch.of(x).to(self.device)
        with evaluating(self):
            c = self.embed(batch.condition)
            _, terms = self.latent.infer(self._encode(batch, c), anchors=self.anchors(), c=c, mean=not sample)
        return tuple(term.z for term in terms)

    @torch.no_grad()
    def decode(self, code: Code | Tensor, *, condition: Tensor | int | None = None) -> Distribution:
        """p(x|z), over raw values."""
        code = (code,) if isinstance(code, Tensor) else code
        with evaluating(self):
            n = code[0].shape[0]
            c = self._condition(n, condition)
            return self.likelihood(self.decoder(self.latent.generate(n, code=code, c=c), c))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        temperature: float = 1.0,
        code: Code = (),
        condition: Tensor | int | None = None,
        pixels: Literal["mean", "draw"] = "mean",
        guidance: float = 1.0,
        top: int | None = None,
    ) -> Float[Tensor, "n C H W"]:
        """n new images in raw values: the mean of p(x|z), or a draw from it. Codes come from the fitted prior if there is one.

        Args:
            temperature: scale of the prior's spread.
            code: fixes the first stochastic layers.
            condition: one class for all, or a condition for each; a model of classes goes through them in turn when none is given.
            guidance, top: of the fitted prior (see `Fitted.sample`).
        """
        if not 0 <= temperature < math.inf:
            raise UserError(f"The temperature multiplies the prior's spread: a number of at least 0, and not {temperature}.")
        images = []
        condition = self._in_turn(n, bool(code)) if condition is None else condition
        conditions = condition.split(DRAWN) if isinstance(condition, Tensor) and condition.dim() > 0 else None
        if self.sampler is None and (guidance != 1.0 or top is not None):
            raise UserError("guidance and top belong to a fitted prior, and this model has none: fit one with vaekit fit-prior.")
        with evaluating(self):
            anchors = self.anchors()
            for i, start in enumerate(range(0, n, DRAWN)):
                m = min(DRAWN, n - start)
                part = tuple(z[start : start + m] for z in code)
                told = condition if conditions is None else conditions[i]
                if self.sampler is not None and not part:
                    told = self._told(m, told)
                    own = told if self.sampler.condition is not None else None
                    part = (self.sampler.sample(m, condition=own, temperature=temperature, guidance=guidance, top=top),)
                    told = told if self.condition is not None else None
                c = self._condition(m, told)
                px = self.likelihood(self.decoder(self.latent.generate(m, code=part, anchors=anchors, temperature=temperature, c=c), c))
                images.append(pixel_values(px, pixels))
        return torch.cat(images)

    def _in_turn(self, n: int, fixed: bool) -> Tensor | None:
        """Conditions for n new images where none are given: every class in turn; None where nothing knows any, or attributes may be left open."""
        if self.condition is not None:
            return self.condition.draw(n)
        prior = None if fixed or self.sampler is None else self.sampler.condition
        return None if prior is None or isinstance(prior, AttributeCondition) else prior.draw(n)

    def _told(self, n: int, condition: Tensor | int | None) -> Tensor | None:
        """n raw conditions for the fitted prior and the decoder together; None where the prior alone may choose."""
        if condition is None:
            return None if self.condition is None else self.condition.draw(n)
        if self.condition is None and (self.sampler is None or self.sampler.condition is None):
            raise UserError("Neither this model nor its prior knows a condition: fit the prior with --condition class to choose one.")
        told = torch.as_tensor(condition, device=self.device)
        return told if told.dim() else told.expand(n)

    def _condition(self, n: int, condition: Tensor | int | None) -> Tensor | None:
        if self.condition is None:
            if condition is not None:
                raise UserError("This model was not trained with a condition: train it with --condition class to choose one.")
            return None
        if condition is None:
            return self.embed(self.condition.draw(n).to(self.device))
        told = torch.as_tensor(condition, device=self.device)
        return self.embed(told if told.dim() else told.expand(n))

    @torch.no_grad()
    def reconstruct(self, x: Images, *, layers: int | None = None, pixels: Literal["mean", "draw"] = "mean") -> Float[Tensor, "B C H W"]:
        """Each image by way of its code (the posterior's mean), in raw values; with `layers`, only the first ones are kept and the rest is drawn."""
        batch = Batch.of(x).to(self.device)
        with evaluating(self):
            c, anchors = self.embed(batch.condition), self.anchors()
            d, terms = self.latent.infer(self._encode(batch, c), anchors=anchors, c=c, mean=True)
            if layers is not None and layers < len(terms):
                d = self.latent.generate(len(batch), code=tuple(term.z for term in terms[:layers]), anchors=anchors, c=c)
            return pixel_values(self.likelihood(self.decoder(d, c)), pixels)

    @torch.no_grad()
    def score(self, x: Images, *, k: int = 64, chunk: int | None = None) -> Float[Tensor, "B"]:
        """The importance-weighted bound on log p(x) with k samples, [B] nats, whatever k: the samples are streamed in chunks.

        Args:
            chunk: samples of each image in one pass; by default so many that a pass has 400 codes on a processor, 4,096 elsewhere, and fewer for
                images larger than 28 x 28.
        """
        batch = Batch.of(x).to(self.device)
        if chunk is None:
            codes = PASS_ON_PROCESSOR if self.device.type == "cpu" else PASS_ELSEWHERE
            larger = max(1.0, math.prod(batch.x.shape[2:]) / 28**2)
            chunk = max(1, int(codes / (max(len(batch), 1) * larger)))
        with evaluating(self):
            c = self.embed(batch.condition)
            h, anchors = self._features(batch, c), self.anchors(batch.index)
            total = torch.full((len(batch),), -math.inf, device=self.device)
            for start in range(0, k, chunk):
                out = self._observe(batch, h, c, anchors, min(chunk, k - start))
                total = torch.logaddexp(total, out.log_w().logsumexp(0))
        return total - math.log(k)

    @torch.no_grad()
    def initialize(self, batch: Images) -> None:
        """The data-dependent start, from one large raw batch."""
        batch = Batch.of(batch)
        self.likelihood.initialize(batch.x)
        self.decoder.initialize(self.likelihood.bias(batch.x))
        if self.condition is not None and batch.condition is not None:
            self.condition.initialize(batch.condition)
        if self.encoder is not None:
            with evaluating(self):
                # As many pixels in one pass as 1,024 images of 28 x 28 have: larger images would ask for gigabytes before the first step.
                size = max(1, int(1024 * min(1.0, 28**2 / math.prod(batch.x.shape[2:]))))
                parts = [batch[i : i + size] for i in range(0, len(batch), size)]
                self.latent.initialize(_joined([self._encode(part, self.embed(part.condition)) for part in parts]))
        if self.latent.anchored is not None:
            self.latent.anchored.initialize(batch.x, batch.condition, batch.index, self.likelihood.input(batch.x))

    def post_step(self, stats: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Updates the state of the parts after an optimizer step: forward itself changes nothing."""
        if stats.get("likelihood"):
            self.likelihood.post_step(stats["likelihood"])
        if stats.get("latent"):
            self.latent.post_step(stats["latent"])

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def _folded(h: Features, k: int) -> Features:
    return {level: fold(x, k) for level, x in h.items()} if isinstance(h, dict) else fold(h, k)


def _joined(parts: list[Features]) -> Features:
    first = parts[0]
    if not isinstance(first, dict):
        return torch.cat(parts)  # type: ignore[arg-type]
    return {level: torch.cat([part[level] for part in parts]) for level in first}  # type: ignore[call-overload]


def _anchors_for(anchors: Anchors | None, k: int) -> Anchors | None:
    return anchors if anchors is None or anchors.same is None or k == 1 else Anchors(anchors.h, fold(anchors.same, k))


def pixel_values(px: Distribution, pixels: Literal["mean", "draw"]) -> Shaped[Tensor, "N C H W"]:
    """The mean of p(x|z), or a draw from it."""
    if pixels not in ("mean", "draw"):
        raise UserError(f"pixels is 'mean' or 'draw', and not '{pixels}'.")
    return px.mean if pixels == "mean" else px.sample()


def total_log_prob(px: Distribution, target: Tensor, mask: Tensor | None = None) -> Float[Tensor, "N"]:
    """log p(x|z) of each image in nats, summed where the mask is true; by a shorter way where the distribution knows one (`total_log_prob`)."""
    if mask is None:
        shorter = getattr(px, "total_log_prob", None)
        return px.log_prob(target).flatten(1).sum(1) if shorter is None else shorter(target)
    if getattr(px, "ordered", False):
        raise UserError("A causal likelihood needs all pixels before each one, and some are missing here: choose another --likelihood.")
    log_px = px.log_prob(target)
    # Joint channels have one log-probability for each pixel: it counts only where every channel is observed.
    observed = mask.all(1, keepdim=True) if log_px.shape[1] == 1 and mask.shape[1] > 1 else mask
    return torch.where(observed, log_px, 0.0).flatten(1).sum(1)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode for a while, with convolutions that do not round float32 to 10 bits, as they do on a GPU by default."""
    was = model.training
    if was:
        model.eval()
    try:
        with unrounded(next((p.device for p in model.parameters()), None)):
            yield
    finally:
        if was:
            model.train()


__all__ = ["VAE", "Code", "LatentTerm", "evaluating", "pixel_values", "total_log_prob"]
