"""What a report advises: when training went wrong, when it did not, and what would help."""

import numpy as np
import torch

from tests.contracts.examples import vae
from vaekit.evaluation import Bound, LatentStatistics
from vaekit.evaluation.latent import LayerStatistics
from vaekit.report.advice import Course, advise
from vaekit.report.measure import Measured


def measured_with(rates: list[float] | None = None, n: int = 1000, bounded: bool = True) -> Measured:
    latent, layer = LatentStatistics(), LayerStatistics()
    rates = [2.0, 1.0, 3.0] if rates is None else rates
    layer.images, layer.dimensions, layer.stochastic, layer.rate = n, len(rates), bounded, sum(rates)
    layer.rate_per_dim = torch.tensor(rates, dtype=torch.float64)
    layer.variance_of_means = (layer.rate_per_dim > 0.05).double()
    latent.layers.append(layer)
    bound = Bound(torch.ones(n).double(), torch.linspace(0, 1, n).double(), torch.zeros(n).double(), bounded)
    return Measured(bound, latent, torch.ones(n), np.zeros((n, 3), np.float32), None, None, 1, None, None)


def history(validation: list[float], training: list[float] | None = None) -> list[dict]:
    training = validation if training is None else training
    return [
        {"epoch": i + 1.0, "images": 640 * (i + 1), "val_elbo_nats": v, "train_elbo_nats": t, "skipped_steps": 0}
        for i, (v, t) in enumerate(zip(validation, training, strict=True))
    ]


GOOD = [-100 - 50 / (i + 1) for i in range(10)]
DONE = {"finished": True, "skipped_steps": 0, "rollbacks": 0, "plan": {"batch_size": 64}}


def advice(rows: list[dict], measured: Measured | None = None, notes: tuple = (), same: bool = True, levels: int | None = 256, **said: object) -> str:
    found = advise({**DONE, **said}, rows, notes, same, vae().likelihood.kind, levels, measured or measured_with())
    assert [n.level for n in found] == sorted((n.level for n in found), key=["fine", "warning", "hint"].index)
    assert (found[0].level == "fine") == all(n.level != "warning" for n in found)
    return "\n".join(f"{n.level}: {n.text}" for n in found)


def test_a_good_run_has_no_warning() -> None:
    assert "fine: Nothing went wrong" in advice(history(GOOD)) and "warning" not in advice(history(GOOD))


def test_overfitting_needs_training_to_rise_while_validation_falls() -> None:
    falling = [-100.0, -80, -70, -72, -75, -80]
    said = advice(history(falling, [-100.0, -80, -70, -65, -60, -55]))
    assert "warning: Overfitting: since epoch 3 of 6 the validation fell by 10 nats while training rose by 15 (the best weights are kept)" in said
    assert "--augment" in said
    assert "the last weights are kept" in advice(history(falling, [-100.0, -80, -70, -65, -60, -55]), select="last")
    other = advice(history(falling, falling))
    assert "Overfitting" not in other and "training did not rise" in other
    assert "fell" not in advice(history([-100.0, -80, -70, -69.9, -70, -70.1])), "a fall of less than 5 % of the gain is noise"


def test_too_long_too_short_and_nothing_learned() -> None:
    assert "At epoch 3 of 10 it was as good as at the end: --epochs 4 would do" in advice(history([-100.0, -80, *[-70.0] * 8]))
    assert "still improving at the end (by 10 nats since epoch 9)" in advice(history([-200.0 + 10 * i for i in range(10)]))
    assert "still improving" not in advice(history([-100 - 50 * 0.4**i for i in range(10)]))
    assert "warning: The validation never got better" in advice(history([-50.0, -60, -70]))
    assert "fewer than three validations" in advice(history([-50.0, -40]))
    course = Course.of([{"epoch": 1.0, "val_elbo_nats": None, "val_distortion_nats": 7.0}])
    assert course.validation == (-7.0,) and course.training == (None,), "without a bound, less distortion is better"


def test_steps_that_were_skipped_and_runs_that_diverged() -> None:
    assert "hint: 1 steps (1 %) were skipped" in advice(history(GOOD), skipped_steps=1)
    assert "warning: 10 steps (10 %)" in advice(history(GOOD), skipped_steps=10)
    assert "warning: Training diverged 2 times" in advice(history(GOOD), rollbacks=2)
    assert "warning: The run is not finished" in advice(history(GOOD), finished=False)


def test_the_use_of_the_latent() -> None:
    assert "warning: 0 of 4 latent dimensions are used" in advice(history(GOOD), measured_with([0.01] * 4))
    assert "hint: 1 of 4 latent dimensions are in use" in advice(history(GOOD), measured_with([9.0, 0.01, 0.01, 0.01]))
    assert "All 3 latent dimensions are full (at least 1.00 nats each): try a larger --latent" in advice(history(GOOD))
    assert "full" not in advice(history(GOOD), measured_with([2.0, 1.0, 0.2]))
    discrete = measured_with()
    discrete.latent.layers[0].codes = torch.tensor([[500.0] + [0.0] * 31])
    assert "3.1 % of the codebook is in use" in advice(history(GOOD), discrete)


def test_data_and_likelihoods_that_limit_what_can_be_said() -> None:
    assert "known to ± 0.057 nats" in advice(history(GOOD), measured_with(n=100)), (
        "1.96 times the deviation 0.293 of 100 even steps from 0 to 1, over 10"
    )
    notes = ("3 images are exact copies of others; copies are kept in one split.", "2 of 9 files cannot be read and are left out (a.png).")
    said = advice(history(GOOD), notes=notes, same=False)
    assert "hint: 3 images are exact copies" in said and "warning: 2 of 9 files cannot be read" in said and "another fingerprint" in said
    assert "--likelihood logistic" in advice(history(GOOD)), "a Gaussian over 8-bit pixels"
    floats = advice(history(GOOD), levels=None)
    assert "no bits per dimension" in floats and "--likelihood" not in floats
    assert "no ELBO and no rate" in advice(history(GOOD), measured_with(bounded=False))
