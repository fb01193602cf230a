"""Bounds on log p(x) of a trained run, side by side on the same test images: the ELBO, the importance-weighted bound, annealed importance sampling.

    python benchmarks/bounds.py RUN [--images 40]

Annealed importance sampling is the check on the others: it uses gradients of the model to find what the posterior misses, and costs as much as tens
of thousands of samples. Figures are in nats per image, with the standard error of the mean over these images; the difference from AIS is taken image
by image, so that its error is much smaller.
"""

import argparse
import time

import torch

import vaekit
from vaekit.evaluation import ais, elbo, iw_bound, mean_and_se


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--steps", type=int, default=200, help="temperatures of AIS")
    parser.add_argument("--chains", type=int, default=8)
    args = parser.parse_args()
    run = vaekit.load(args.run)
    batch = vaekit.reopen(run).batch("test", torch.arange(args.images))
    results, seconds = {}, {}
    for name, compute in {
        "ELBO": lambda: elbo(run.model, [batch]).elbo,
        "IW, 100 samples": lambda: iw_bound(run.model, [batch], 100),
        "IW, 1,000 samples": lambda: iw_bound(run.model, [batch], 1000),
        "IW, 10,000 samples": lambda: iw_bound(run.model, [batch], 10_000),
        f"AIS, {args.steps} steps, {args.chains} chains": lambda: ais(run.model, [batch], args.steps, args.chains),
    }.items():
        began = time.perf_counter()
        results[name] = compute()
        seconds[name] = time.perf_counter() - began
    last = list(results.values())[-1]
    print(f"{args.images} test images of {args.run}, nats per image\n\n| bound | mean | difference from AIS | seconds |\n|---|---|---|---|")
    for name, values in results.items():
        (mean, error), (gap, gap_error) = mean_and_se(values), mean_and_se(values - last)
        print(f"| {name} | {mean:.2f} ± {error:.2f} | {gap:+.3f} ± {gap_error:.3f} | {seconds[name]:.0f} |")


if __name__ == "__main__":
    main()
