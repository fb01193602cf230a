"""pythae's VAE with the published networks (two gated layers of 300, 40 latents), trained by its own trainer on bits drawn afresh for each pass."""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from quality import Clock, Watch, arguments, bits, over, report, streamed
from torch import Tensor, nn

LATENT, WIDTH = 40, 300


class Gated(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x) * torch.sigmoid(self.gate(x))


class Encoder(BaseEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Gated(784, WIDTH), Gated(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * LATENT))

    def forward(self, x: Tensor) -> ModelOutput:
        mean, log_variance = self.layers(x).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Gated(LATENT, WIDTH), Gated(WIDTH, WIDTH), nn.Linear(WIDTH, 784), nn.Sigmoid())

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.layers(z))


def posterior(model: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    out = model.encoder(x)
    return out.embedding, out.log_covariance


def log_px(model: VAE, x: Tensor, z: Tensor) -> Tensor:
    """log p(x|z) as pythae's loss has it, [g, n] nats for z [g, n, D]."""
    probabilities = model.decoder(z.flatten(0, 1)).reconstruction.view(*z.shape[:2], -1)
    return -F.binary_cross_entropy(probabilities, x.expand_as(probabilities), reduction="none").sum(-1)


@torch.no_grad()
def elbo(model: VAE, x: np.ndarray) -> np.ndarray:
    """The ELBO with one sample and the divergence in closed form, [n] nats."""
    t = torch.from_numpy(x)
    mean, log_variance = posterior(model, t)
    z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    rate = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return (log_px(model, t, z[None])[0] - rate).numpy()


@torch.no_grad()
def bound(model: VAE, x: np.ndarray, samples: int) -> np.ndarray:
    """The importance-weighted bound, [n] nats."""
    t = torch.from_numpy(x)
    mean, log_variance = posterior(model, t)

    def log_weights(g: int) -> np.ndarray:
        noise = torch.randn(g, *mean.shape)
        z = mean + torch.exp(0.5 * log_variance) * noise
        # log p(z) - log q(z|x): both have the same constant.
        ratio = -0.5 * z.square().sum(-1) + 0.5 * (noise.square() + log_variance).sum(-1)
        return (log_px(model, t, z) + ratio).numpy()

    return streamed(log_weights, samples)


class Done(Exception):
    """The time is over."""


class Checks(TrainingCallback):
    """Draws the bits of a pass before it, and checks the model after it."""

    def __init__(self, model: VAE, dataset: BaseDataset, grey: Tensor, validation: np.ndarray, watch: Watch, args: Any) -> None:
        self.model, self.dataset, self.grey, self.validation, self.watch = model, dataset, grey, validation, watch
        self.budget, self.size = args.budget, args.batch_size
        self.images = 0

    def on_epoch_begin(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
        torch.bernoulli(self.grey, out=self.dataset.data)
        self.left = len(self.grey)

    def on_train_step_end(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
        self.images, self.left = self.images + min(self.size, self.left), self.left - self.size
        self.watch.started()
        if self.watch.clock.seconds() >= self.budget:
            raise Done

    def on_epoch_end(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
        self.check()

    def check(self) -> None:
        seconds = self.watch.clock.seconds()
        with self.watch.clock.stopped(), torch.random.fork_rng():
            torch.manual_seed(1)
            value = over(self.validation, lambda x: elbo(self.model.eval(), x)).mean()
            if place := self.watch.check(seconds, self.images, float(value)):
                torch.save(self.model.state_dict(), place)


def main() -> None:
    args = arguments()
    watch = Watch(Clock(args), args.every, Path.cwd())
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    grey = torch.from_numpy(np.load(args.data / "train.npy")).view(-1, 784).float() / 255
    dataset = BaseDataset(torch.bernoulli(grey), torch.zeros(len(grey)))
    model = VAE(VAEConfig(input_dim=(784,), latent_dim=LATENT, reconstruction_loss="bce"), Encoder(), Decoder())
    checks = Checks(model, dataset, grey, bits(args.data, "validation", args.images), watch, args)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=args.batch_size,
            num_epochs=10**6,
            learning_rate=args.lr,
            optimizer_cls="Adam",
            train_dataloader_num_workers=0,
            seed=args.seed,
        )
        with contextlib.suppress(Done):
            BaseTrainer(model, dataset, training_config=config, callbacks=[checks]).train()
    checks.check()
    test = bits(args.data, "test", args.images)

    def score(place: Path) -> tuple[np.ndarray, np.ndarray]:
        model.load_state_dict(torch.load(place, weights_only=True))
        torch.manual_seed(2)
        return over(test, lambda x: elbo(model.eval(), x)), over(test, lambda x: bound(model.eval(), x, args.samples))

    report(watch, args, score, parameters=sum(p.numel() for p in model.parameters()))


if __name__ == "__main__":
    main()
