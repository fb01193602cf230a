"""Breaks one formula at a time and shows that a test notices.

    python benchmarks/mutations.py

Each mutation is made in a copy of `src/`, and the tests that guard the formula run against that copy. The script prints what was broken and
which test failed first; it exits 1 if a mutation survives, or if a formula is no longer where the list says.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Mutation:
    what: str
    file: str
    """Below src/vaekit/."""
    before: str
    after: str
    tests: str
    """Arguments of pytest."""


MUTATIONS = (
    Mutation(
        "divergence from N(0, I): a sign",
        "distributions/kl.py",
        "addcmul(s * s - 1, m, m).mul_(0.5).sub_(s.log())",
        "addcmul(s * s - 1, m, m).mul_(0.5).add_(s.log())",
        "tests/oracles/test_bounds.py",
    ),
    Mutation(
        "divergence from N(0, I): a factor 1/2",
        "distributions/kl.py",
        "addcmul(s * s - 1, m, m).mul_(0.5)",
        "addcmul(s * s - 1, m, m)",
        "tests/oracles/test_bounds.py",
    ),
    Mutation(
        "divergence from N(0, I): its derivative",
        "distributions/kl.py",
        "grad * (s - s.reciprocal())",
        "grad * (s + s.reciprocal())",
        "tests/oracles/test_fused.py",
    ),
    Mutation("Gaussian noise: a mean for a sum", "distributions/pixel_gaussian.py", ".flatten(2).sum(2)", ".flatten(2).mean(2)", "tests/oracles"),
    Mutation(
        "Gaussian noise: the derivative of its scale",
        "distributions/pixel_gaussian.py",
        "squared * precision - ctx.pixels",
        "squared * precision",
        "tests/oracles/test_fused.py",
    ),
    Mutation(
        "Gaussian noise: errors summed in 16 bits",
        "distributions/pixel_gaussian.py",
        "with full_precision(flat):",
        "if True:",
        "tests/contracts/test_likelihoods.py -k 16_bits",
    ),
    Mutation(
        "causal pixels: the mask shows the pixel itself",
        "likelihoods/causal.py",
        "mask[reach, reach:] = 0.0",
        "mask[reach, reach + 1 :] = 0.0",
        "tests/oracles/test_causal.py",
    ),
    Mutation(
        "causal pixels: a layer sees to the right",
        "likelihoods/causal.py",
        "[1.0, 1.0, 0.0]",
        "[1.0, 1.0, 1.0]",
        "tests/oracles/test_causal.py",
    ),
    Mutation(
        "causal pixels: a walk reads the wrong row above",
        "likelihoods/causal.py",
        "[(i + 1) % (s + 1), i % (s + 1)]",
        "[i % (s + 1), i % (s + 1)]",
        "tests/oracles/test_causal.py",
    ),
    Mutation(
        "flow matching: the velocity's sign",
        "latents/priors/flow_matching.py",
        "return (1 - t, -one), (t, one)",
        "return (1 - t, one), (t, one)",
        "tests/oracles/test_second_stage.py",
    ),
    Mutation(
        "importance weights: the sign", "objectives/weights.py", "log_w.logsumexp(0) -", "(-log_w).logsumexp(0) -", "tests/oracles/test_bounds.py"
    ),
    Mutation(
        "importance weights: not detached", "objectives/weights.py", "log_w.detach().float()", "log_w.float()", "tests/oracles/test_sampled_bounds.py"
    ),
    Mutation("DReG: weights not squared", "objectives/routed.py", "path=weight.square()", "path=weight", "tests/oracles/test_gradient_estimators.py"),
    Mutation(
        "total correlation: weights transposed",
        "penalties/total_correlation.py",
        "weights[rows, (rows + 1) % size] =",
        "weights[(rows + 1) % size, rows] =",
        "tests/oracles/test_total_correlation.py",
    ),
    Mutation(
        "quantizer: a missing detach",
        "latents/quantizers/vector.py",
        "per_image((h.detach() - e).square())",
        "per_image((h - e).square())",
        "tests/oracles/test_codebooks.py",
    ),
    Mutation(
        "quantizer: the commitment's weight on the codebook",
        "latents/quantizers/vector.py",
        "per_image((h.detach() - e).square()) + self.beta * per_image((h - e.detach()).square())",
        "self.beta * per_image((h.detach() - e).square()) + per_image((h - e.detach()).square())",
        "tests/oracles/test_codebooks.py",
    ),
    Mutation(
        "critic of codes: a missing detach",
        "penalties/adversarial.py",
        '{"codes": codes(out).detach(), "prior"',
        '{"codes": codes(out), "prior"',
        "tests/system/test_critics.py -k neither",
    ),
    Mutation(
        "ladder: the posterior is not told relative to the prior",
        "latents/ladder.py",
        "_normal(base.loc + shift, ",
        "_normal(base.loc - shift, ",
        "tests/oracles/test_ladder_bounds.py",
    ),
    Mutation("lazy rate: log p and log q swapped", "output.py", "return self.log_q - self.log_p", "return self.log_p - self.log_q", "tests/oracles"),
)


def main() -> int:
    survived = 0
    for mutation in MUTATIONS:
        verdict, detail = tried(mutation)
        survived += verdict != "caught"
        print(f"{verdict:<9} {mutation.file}: {mutation.what}{detail}", flush=True)
    print(f"{len(MUTATIONS) - survived} of {len(MUTATIONS)} mutations were caught")
    return 1 if survived else 0


def tried(mutation: Mutation) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        path = copy / "src" / "vaekit" / mutation.file
        text = path.read_text()
        if text.count(mutation.before) != 1:
            return "NOT FOUND", f" ('{mutation.before}' stands {text.count(mutation.before)} times in it)"
        path.write_text(text.replace(mutation.before, mutation.after))
        environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *mutation.tests.split()]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
        if done.returncode == 1 and found:
            return "caught", f", by {found[1].split('/')[-1]}"
        return ("SURVIVED", "") if done.returncode == 0 else ("BROKEN", f" (pytest ended with {done.returncode}: {done.stdout[-300:]})")


if __name__ == "__main__":
    sys.exit(main())
