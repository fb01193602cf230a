"""Trains the small classifier of Fashion-MNIST whose features measure samples (the feature space `fashion`).

    taskset -c 0 python benchmarks/fashion_classifier.py

A few minutes on one core, with bf16 under autocast. It learns from the 50,000 training images, with no augmentation (a shoe that looks to the
other side is not like the data), and never sees the validation and the test images. Batch norm is folded into the convolutions, and the weights are
written as float16. At the end it prints the accuracies of what was written and its SHA-256, which stands in
`vaekit/evaluation/samples/fashion.py`: another training gives another network, and distances that cannot be compared with the old ones.
"""

import argparse
import hashlib
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vaekit.data import Dataset, open_data
from vaekit.evaluation.samples.fashion import WEIGHTS, FashionClassifier


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training images (default: 10)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.003, help="the highest learning rate of one cycle (default: 0.003)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="only the first training images")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the file of the weights")
    args = parser.parse_args()
    data, start = open_data("fashion-mnist"), time.time()
    network = train(data, args)
    weights = {name: value.half().contiguous() for name, value in folded(network).state_dict().items()}
    save_file(weights, args.out)
    written = FashionClassifier().eval()
    written.load_state_dict({name: value.float() for name, value in load_file(args.out).items()})
    for split in ("train", "validation", "test"):
        print(f"{split}: accuracy {accuracy(written, *images(data, split)):.4f}")
    content = args.out.read_bytes()
    parameters = sum(value.numel() for value in weights.values())
    print(f"{parameters:,} parameters, {len(content):,} bytes, {time.time() - start:.0f} s of training and testing")
    print(f"SHA-256 {hashlib.sha256(content).hexdigest()}")
    return 0


def images(data: Dataset, split: str) -> tuple[Tensor, Tensor]:
    """Images on the scale from 0 to 1, and their classes."""
    rows = data.index(split)
    assert data.labels is not None
    return data.pixels(rows).float() / 255, data.labels[rows]


def train(data: Dataset, args: argparse.Namespace) -> FashionClassifier:
    torch.manual_seed(args.seed)
    x, y = (t[: args.limit] for t in images(data, "train"))
    network = FashionClassifier(norm=True).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=0.05)
    steps = -(-len(x) // args.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.epochs * steps)
    for epoch in range(args.epochs):
        network.train()
        start, total = time.time(), 0.0
        for rows in torch.randperm(len(x)).split(args.batch_size):
            with torch.autocast("cpu", torch.bfloat16):
                logits = network.head(F.dropout(network.features(x[rows]), 0.3))
            loss = F.cross_entropy(logits.float(), y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        valid = accuracy(network, *images(data, "validation"))
        print(f"epoch {epoch + 1}: loss {total / len(x):.4f}, validation accuracy {valid:.4f}, {time.time() - start:.0f} s", flush=True)
    return network


def folded(network: FashionClassifier) -> FashionClassifier:
    """The same function without batch norm: W' = W g / s, b' = (b - m) g / s + beta, for each channel."""
    plain, layers = FashionClassifier().eval(), list(network.eval().body)
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d) and isinstance(norm := layers[i + 1], nn.BatchNorm2d):
            plain.body[i].load_state_dict(fuse_conv_bn_eval(layer, norm).state_dict())
    plain.embed.load_state_dict(network.embed.state_dict())
    plain.head.load_state_dict(network.head.state_dict())
    return plain


@torch.no_grad()
def accuracy(network: FashionClassifier, x: Tensor, y: Tensor) -> float:
    network.eval()
    return torch.cat([network(part).argmax(1) for part in x.split(1000)]).eq(y).double().mean().item()


if __name__ == "__main__":
    raise SystemExit(main())
