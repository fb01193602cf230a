"""The tutorial's network trained by pythae's own trainer: its VAE with custom networks, its "mse" loss (a Gaussian whose sigma is fixed at 1)."""

import contextlib
import tempfile

import torch
from common import Clock, arguments, images, report
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

LATENT = 16


class Encoder(BaseEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 256), nn.ReLU(),
            nn.Linear(256, 2 * LATENT),
        )  # fmt: skip

    def forward(self, x: Tensor) -> ModelOutput:
        mean, log_variance = self.layers(x).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT, 256), nn.ReLU(), nn.Linear(256, 32 * 7 * 7), nn.ReLU(), nn.Unflatten(1, (32, 7, 7)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.layers(z))


class Done(Exception):
    """The timed part is over: the rest of the epoch, and the model that would be saved, are nobody's interest."""


class Timer(TrainingCallback):
    def __init__(self, clock: Clock, batch_size: int) -> None:
        self.clock, self.batch_size = clock, batch_size

    def on_train_step_end(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
        if self.clock.step(self.batch_size):
            raise Done


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    data = torch.from_numpy(images(args.data)).unsqueeze(1).float() / 255
    data = data[: len(data) // args.batch_size * args.batch_size]  # whole batches, so that counting steps counts images
    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="mse"), Encoder(), Decoder())
    dataset = BaseDataset(data, torch.zeros(len(data)))
    probe = {"data": data[:1000]}
    with torch.no_grad():
        first = model(probe).loss.item()
    clock = Clock(args.warmup, args.images)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=args.batch_size,
            num_epochs=1000,
            learning_rate=1e-3,
            train_dataloader_num_workers=0,
        )
        with contextlib.suppress(Done):
            BaseTrainer(model, dataset, training_config=config, callbacks=[Timer(clock, args.batch_size)]).train()
    with torch.no_grad():
        report(first, model(probe).loss.item())


if __name__ == "__main__":
    main()
