"""`docs/records.md`: every complete evaluation beside the published figures."""

from pathlib import Path

from lines import Line, Summary, summaries

PUBLISHED: dict[str, list[tuple[str, str, str, str]]] = {
    "fashion-mnist, binarized": [
        ("VAE, MLP 2x300, z 40 (arXiv 2004.04795)", "228.70 ± 0.15 (5,000)", "", "V2"),
        ("VAE with a VampPrior, the same networks (arXiv 2004.04795)", "227.35 ± 0.05 (5,000)", "", "V2"),
        ("Exemplar VAE, the same networks (arXiv 2004.04795)", "226.75 ± 0.07 (5,000)", "", "V2"),
    ],
    "fashion-mnist": [
        ("Sparse probabilistic circuit", "", "3.27 (exact)", "V"),
        ("Bit-Swap, a hierarchical VAE (arXiv 1905.06845)", "", "3.28 (-ELBO)", "V2"),
        ("HCLT circuit", "", "3.34 (exact)", "V"),
        ("IDF", "", "3.47", "V2"),
        ("BB-ANS, a VAE", "", "3.66 (-ELBO)", "V2"),
        ("gzip of the files", "", "4.51", "computed"),
    ],
}
"""Beside our rows: the model, nats (samples of the bound), bits/dim, and where the number was read."""
TITLES = {"fashion-mnist, binarized": "Binarized Fashion-MNIST", "fashion-mnist": "8-bit Fashion-MNIST"}
PROTOCOL = {
    "fashion-mnist, binarized": "50,000 training images binarized afresh at each use, fixed bits for validation and test (arXiv 2004.04795). "
    "The grey test images have a mean Bernoulli entropy of 189.86 nats.",
    "fashion-mnist": "The integers 0 to 255; 50,000 training images, the last 10,000 of the training set for validation.",
}


def write_page(lines: list[Line], path: Path) -> None:
    """`docs/records.md`, from the complete evaluations."""
    text = ["# Records", ""]
    text += [
        "Written by `python benchmarks/records.py RUN --samples K` from `benchmarks/records.jsonl`. Likelihoods are on all test images, errors are",
        "standard errors of the mean over them; those of published rows are over runs. Lower is better. Minutes are of training alone. Where a",
        "published number was read: V in the paper or its repository, V2 in a text that quotes it.",
        "",
    ]
    whole = [s for s in summaries(lines) if s.complete and s.about["images"] == s.about["test_images"]]
    for data in [*(d for d in TITLES if any(s.about["data"] == d for s in whole)), *dict.fromkeys(_others(whole))]:
        text += [f"## {TITLES.get(data, data)}", "", *([PROTOCOL[data], ""] if data in PROTOCOL else [])]
        text += [
            "| | seed | machine | minutes | parameters | -ELBO, nats | bound, nats (samples) | bits/dim by -ELBO (by the bound) | read |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        ours = [s for s in whole if s.about["data"] == data]
        text += [_row([s for s in ours if s.about["model"] == model]) for model in dict.fromkeys(s.about["model"] for s in ours)]
        text += [f"| published: {name} | | | | | | {nats} | {bits} | {mark} |" for name, nats, bits, mark in PUBLISHED.get(data, [])]
        text.append("")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(text).rstrip() + "\n")


def _others(whole: list[Summary]) -> list[str]:
    return [s.about["data"] for s in whole if s.about["data"] not in TITLES]


def _row(evaluations: list[Summary]) -> str:
    """A run with all of its bounds; the ELBO is that of the evaluation with the most samples."""
    evaluations = sorted(evaluations, key=lambda s: s.about["samples"])
    last = evaluations[-1]
    bounds = "; ".join(f"**{-s.bound[0]:.2f}** ± {s.bound[1]:.2f} ({s.about['samples']:,}{_rounded(s)})" for s in evaluations)
    elbo, bound = last.bits(-last.elbo[0]), last.bits(-last.bound[0])
    bits = "" if elbo is None or bound is None else f"{elbo:.4f} ({bound:.4f})"
    about = last.about
    minutes = "" if about["minutes"] is None else f"{about['minutes']:.1f}"
    cells = (
        f"`{about['command']}`",
        str(about["seed"]),
        next((machine for s in evaluations if (machine := s.about.get("machine"))), ""),
        minutes,
        f"{about['parameters'] / 1e6:.2f} M",
        f"{-last.elbo[0]:.2f} ± {last.elbo[1]:.2f}",
        bounds,
        bits,
        "",
    )
    return f"| {' | '.join(cells)} |"


def _rounded(s: Summary) -> str:
    device = s.about.get("device", "cpu")
    return ("" if s.about["precision"] == "fp32" else f", {s.about['precision']}") + ("" if device == "cpu" else f", {device}")
