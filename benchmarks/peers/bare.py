"""The tutorial's network in a bare hand-written PyTorch loop: nothing but the arithmetic, and no more checks than a person would write."""

import math

import torch
import torch.nn.functional as F
from common import Clock, arguments, images, report
from torch import Tensor, nn


class Network(nn.Module):
    def __init__(self, latent: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 256), nn.ReLU(),
            nn.Linear(256, 2 * latent),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent, 256), nn.ReLU(), nn.Linear(256, 32 * 7 * 7), nn.ReLU(), nn.Unflatten(1, (32, 7, 7)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip
        self.log_sigma = nn.Parameter(torch.tensor(math.log(0.25)))

    def forward(self, x: Tensor) -> Tensor:
        """Minus the ELBO, in nats per image of pixels in [0,1]."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        error = F.mse_loss(self.decoder(z), x, reduction="sum") / len(x)
        distortion = 0.5 * error * torch.exp(-2 * self.log_sigma) + 784 * (self.log_sigma + 0.5 * math.log(2 * math.pi))
        rate = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / len(x)
        return distortion + rate


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    # 30 MB taken and given back once: the C library then keeps what a step frees for the next step, and does not return it to the system to have
    # it cleared page by page. The other contenders come to the same by the larger batches that they look at before they start.
    torch.empty(30 * 2**20, dtype=torch.uint8)
    data = torch.from_numpy(images(args.data)).unsqueeze(1)
    model = Network().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    clock = Clock(args.warmup, args.images)
    first, total = None, torch.zeros(())
    while True:
        for rows in torch.randperm(len(data)).split(args.batch_size):
            x = data[rows].float() / 255
            loss = model(x)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if first is None:
                first = loss.item()
            total = 0.98 * total + 0.02 * loss.detach()
            if clock.step(len(rows)):
                return report(first, total.item())


if __name__ == "__main__":
    main()
