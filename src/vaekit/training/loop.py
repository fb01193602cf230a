"""The training loop: one for every variant."""

import gc
import math
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from vaekit.data import Dataset
from vaekit.errors import UserError
from vaekit.evaluation import collapse_warning, evaluate_batches
from vaekit.latents.fitted import Fitted
from vaekit.model import VAE
from vaekit.part import spec
from vaekit.recipes import Recipe
from vaekit.run import Run
from vaekit.saving import copy_file, remove_leftovers, save_model
from vaekit.training.checkpoint import Checkpoint
from vaekit.training.counters import Counters
from vaekit.training.critics import Critics
from vaekit.training.ema import Average
from vaekit.training.optimizer import all_finite, global_norm, make_optimizer, set_rate
from vaekit.training.options import Training
from vaekit.training.order import derived_seed, epoch_order, seed_step
from vaekit.training.pace import Pace
from vaekit.training.plan import Plan
from vaekit.training.progress import Watcher
from vaekit.training.stopping import Interrupted, asked_to_stop
from vaekit.training.task import Task

PATIENCE = 10
"""Skipped steps in a row after which the run goes back to its last good state."""
ROLLBACKS = 6
"""Returns after which it gives up."""
STEPS = 500
"""Before so many, nothing is said of a code that is not used yet."""


class Trainer:
    """Trains a recipe's model on a data set, from the state of the run folder to the end.

    Args:
        accelerator: Hugging Face Accelerate's, which knows devices and processes.
        plan: how the arithmetic is carried out.
        total: images to train on.
        save_seconds: at least this long between checkpoints, but for the last.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Dataset,
        training: Training,
        run: Run,
        accelerator: Any,
        plan: Plan,
        total: int,
        watcher: Watcher,
        save_seconds: float = 20.0,
    ) -> None:
        self.recipe, self.data, self.training, self.run, self.plan = recipe, data, training, run, plan
        self.accelerator, self.total, self.watcher, self.save_seconds = accelerator, total, watcher, save_seconds
        self.dimensions, self.count = data.spec.dimensions, data.size("train")
        self.device = accelerator.device
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.task = Task(recipe.model, recipe.objective, recipe.penalties, recipe.critics, plan.precision).to(self.device)
        plan.apply(self.task)
        self.model: VAE | Fitted = recipe.model
        self.parameters: list[Tensor] = [p for p in self.task.parameters() if p.requires_grad]
        optimizer = make_optimizer(self.task, training, plan.precision)
        self.critics = Critics(recipe.critics, training, self.device)
        self.average = Average(self.model, training.ema) if training.ema > 0 else None
        self.counters = Counters()
        self.checkpoint = Checkpoint(run.checkpoints)
        self.pace = Pace(training.minutes, accelerator)
        self.pending_best: dict[str, Tensor] | None = None
        self.beyond: float | None = None
        """The norm of the last gradient that was left out for being larger than `skip`; None where it was not finite."""
        self.moving = [b for m in self.task.modules() if isinstance(m, _BatchNorm) for b in m.buffers(recurse=False)]
        self.prepared, prepared = accelerator.prepare(self.task, optimizer)
        # Accelerate's optimizer is needed where a loss is scaled; elsewhere it is the plain one with a cost for each step.
        self.optimizer = prepared if plan.precision == "fp16" else optimizer
        if plan.compile:
            self.prepared = torch.compile(self.prepared)

    def train(self) -> None:
        """Trains to the end. Raises `Interrupted`, with the state saved, when the process is asked to stop."""
        self._begin()
        # What lives until the end needs no looking at by each of the garbage collector's rounds.
        gc.collect()
        gc.freeze()
        self.watcher.start(self.counters.images, self.total)
        self.pace.begin(self.counters.images, self.total)
        try:
            with asked_to_stop() as asked:
                while self.counters.images < self.total:
                    self._epoch(asked)
            self._finish()
        finally:
            gc.unfreeze()
            self.watcher.stop()

    # ---- the run

    def _begin(self) -> None:
        if self.accelerator.is_main_process:
            remove_leftovers(self.run.path)
        if self.checkpoint.exists():
            self._restore()
            if self.accelerator.is_main_process:
                self.run.forget_after(self.counters.images)
            self.watcher.say(f"Resuming at {self.counters.images:,} of {self.total:,} images.")
        else:
            rows = epoch_order(self.count, self.training.seed, 0)[: self.recipe.start]
            seed_step(self.training.seed, 0, -1)
            began = time.perf_counter()
            self.task.initialize(self.data.batch("train", rows, seed=self.training.seed).to(self.device))
            self.counters.start = time.perf_counter() - began
            if self.average is not None:
                self.average = Average(self.model, self.training.ema)
            # A clean start even after a kill that came between run.json and the first checkpoint.
            if self.accelerator.is_main_process:
                self.run.forget_after(-1)
            self._save()

    def _epoch(self, asked: list[int]) -> None:
        epoch = self.counters.images // self.count
        order = epoch_order(self.count, self.training.seed, epoch)
        size = self.training.batch_size
        while self.counters.images // self.count == epoch and self.counters.images < self.total:
            start = self.counters.images % self.count
            began = time.perf_counter()
            good = self._step(order[start : start + size], epoch)
            self.counters.seconds += time.perf_counter() - began
            self._keep_pace()
            if not good and self.counters.in_a_row >= PATIENCE:
                self._roll_back()
                return
            stop = self._asked(asked)
            # After a step that was left out the state may be what made it fail: it is kept once a step has been taken again.
            within = self.counters.images % self.count != 0 and self.counters.images < self.total and not self.counters.in_a_row
            if within and (stop or time.perf_counter() - self.saved > self.save_seconds):
                self._save()
                self._stop_if(stop)
        # Only after its validation is an epoch over: a state saved before it would skip it on resuming.
        began = time.perf_counter()
        self._validate()
        self.counters.validating += time.perf_counter() - began
        stop = self._asked(asked)
        if stop or self.counters.images >= self.total or time.perf_counter() - self.saved > self.save_seconds:
            self._save()
        if self.counters.images < self.total and not self.counters.in_a_row:
            self._stop_if(stop)

    def _asked(self, asked: list[int]) -> int:
        """The signal that asks to stop, the same on all processes, of which a launcher may have told one alone; 0 for none."""
        own = asked[0] if asked else 0
        if self.world == 1:
            return own
        return int(self.accelerator.gather(torch.tensor([own], device=self.device)).max())

    def _keep_pace(self) -> None:
        """A run of so many minutes gets another length where the speed is not what it was measured to be."""
        images, before = self.counters.images, self.total
        self.total = self.pace.total(images, before, self.counters.seconds + self.counters.validating)
        if self.total == before:
            return
        if self.accelerator.is_main_process:
            self.run.describe(plan=self.run.description["plan"] | {"images": self.total})
        self.watcher.stop()
        self.watcher.say(
            f"The machine's speed is not what it was at the start: {self.total:,} images, and not {before:,}, fit into the minutes asked for."
        )
        self.watcher.start(images, self.total)

    def _stop_if(self, stop: int) -> None:
        if stop:
            name = "Ctrl-C" if stop == signal.SIGINT else "SIGTERM"
            raise Interrupted(f"Stopped by {name} at {self.counters.images:,} of {self.total:,} images; run the same command again to go on.", stop)

    def _finish(self) -> None:
        if self.accelerator.is_main_process:
            if self.counters.best is None and self.recipe.select != "last":
                self.watcher.say("No validation gave a finite ELBO: the model has the last weights, and not the best.")
            copy_file(self.run.best, self.run.final)
            self.run.describe(
                finished=True,
                seconds=round(self.counters.seconds + self.counters.start, 3),
                skipped_steps=self.counters.skipped,
                rollbacks=self.counters.rollbacks,
            )
        self.accelerator.wait_for_everyone()
        self.run.__dict__.pop("model", None)

    # ---- one step

    def _step(self, rows: Tensor, epoch: int) -> bool:
        """One step of the model and of its critics; False if it was skipped."""
        c, t = self.counters, self.training
        position = c.images
        c.images = min(c.images + len(rows), self.total)
        fraction = position / self.total
        self.schedule = self.task.progress(fraction)
        set_rate(self.optimizer, rate := t.rate(fraction) * c.rate_scale)
        self.schedule["lr"] = rate
        local = rows[: len(rows) - len(rows) % self.world][self.rank :: self.world] if self.world > 1 else rows
        if len(local) == 0:
            return True
        c.plain = c.plain or fraction >= t.augment_until
        augment = None if c.plain else t.augment
        batch = self.data.batch("train", local, seed=t.seed, epoch=epoch, augment=augment, position=position * self.world + self.rank)
        if self.device.type != "cpu":
            batch = batch.to(self.device)
        # Once for the encoder and the likelihood, which both take floats.
        batch.x = batch.x.float()
        seed_step(t.seed, self.rank, position)
        if not self.task.training:
            self.prepared.train()
        averages = [b.clone() for b in self.moving]
        step = self.prepared(batch)
        loss = step.loss / self.dimensions
        # Accelerate's backward is the plain one but for fp16, whose loss it scales.
        self.accelerator.backward(loss) if self.plan.precision == "fp16" else loss.backward()
        if not self._limited():
            self._leave_out(averages)
            return False
        self.optimizer.step()
        self._forget_gradients()
        c.in_a_row = 0
        with torch.no_grad():
            self.task.post_step(self._reduced(step.stats))
            if self.average is not None:
                self.average.update()
        if self.critics.modules:
            self.schedule |= self.critics.step(step.feeds)
        loss, distortion, divergence = step.logs.tolist()
        for i, value in enumerate((loss, distortion, divergence)):
            c.sums[i] += value * len(rows)
        c.summed += len(rows)
        self.watcher.step(c.images, loss, distortion, divergence)
        return True

    def _forget_gradients(self) -> None:
        """What `zero_grad` does, without its bookkeeping, which takes as long as the step's small operations."""
        for parameter in self.parameters:
            parameter.grad = None

    def _leave_out(self, averages: list[Tensor]) -> None:
        """Forgets the gradient of a step that is not taken, and what batch norm has averaged of it; a loss scaled too far for fp16 is scaled less."""
        for now, before in zip(self.moving, averages, strict=True):
            now.copy_(before)
        if self.plan.precision == "fp16":
            self.accelerator.scaler.update()
        self._forget_gradients()
        self.counters.skipped += 1
        self.counters.in_a_row += 1

    def _limited(self) -> bool:
        """Scales the gradient down to the limit; False if the step must be skipped. Norms are in nats: the loss was divided by the dimensions."""
        if self.plan.precision == "fp16":
            self.accelerator.unscale_gradients(self.optimizer)
        if self.training.clip is None and self.training.skip is None:
            return all_finite(self.parameters)
        norm = global_norm(self.parameters).item() * self.dimensions
        larger = self.training.skip is not None and norm > self.training.skip
        if larger or not math.isfinite(norm):
            self.beyond = norm if math.isfinite(norm) else None
            return False
        if self.training.clip is not None and norm > self.training.clip:
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], self.training.clip / norm)
        return True

    def _reduced(self, stats: Mapping[str, Mapping[str, Tensor]]) -> Mapping[str, Mapping[str, Tensor]]:
        if self.world == 1:
            return stats
        return {part: {k: self.accelerator.reduce(v, "mean") for k, v in values.items()} for part, values in stats.items()}

    # ---- looking and keeping

    def _validate(self) -> None:
        c = self.counters
        model = self.model if self.average is None else self.average.evaluated()
        if self.accelerator.is_main_process:
            precision = "bf16" if self.plan.precision == "bf16" else "fp32"
            batches = self.data.batches("validation", max(self.training.batch_size, 256))
            result = evaluate_batches(model, batches, seed=derived_seed("validation", self.training.seed) >> 32, precision=precision)
            means = result.means()
            row: dict[str, Any] = {"images": c.images, "epoch": c.images / self.count}
            if c.summed:
                loss, distortion, divergence = (s / c.summed for s in c.sums)
                row |= {
                    "train_loss_nats": loss,
                    "train_elbo_nats": -(distortion + divergence),
                    "train_rate_nats": divergence,
                    "train_distortion_nats": distortion,
                }
            row |= {f"val_{k}" if k.endswith("_nats") else k: v for k, v in means.items()}
            row |= {
                **self.schedule,
                "seconds": round(c.seconds, 3),
                "images_per_second": round(c.images / max(c.seconds, 1e-9), 1),
                "skipped_steps": c.skipped,
            }
            row = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in row.items()}
            # As long as no ELBO was finite, the last weights stand in for the best.
            better = c.best is None or (row["val_elbo_nats"] is not None and row["val_elbo_nats"] > c.best)
            if better or self.recipe.select == "last":
                c.best = row["val_elbo_nats"]
                self.pending_best = {k: v.detach().clone() for k, v in model.state_dict().items()}
            self.run.record(row)
            self.watcher.validated(row)
            self.accelerator.log({k: v for k, v in row.items() if v is not None}, step=c.images)
            warning = collapse_warning(result.latent)
            begun = c.images >= min(self.total, max(2 * self.count, self.total // 4)) and c.images >= STEPS * self.training.batch_size
            if warning and begun and not getattr(self, "warned", False):
                self.watcher.say(f"Warning: {warning}")
                self.warned = True
        c.sums, c.summed = [0.0, 0.0, 0.0], 0
        self.accelerator.wait_for_everyone()

    def _modules(self) -> dict[str, torch.nn.Module]:
        average = {} if self.average is None else {"average": self.average.model}
        return {"task": self.task, **average, **{f"critic.{k}": v for k, v in self.critics.modules.items()}}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        return {"model": inner, **{f"critic.{k}": v for k, v in self.critics.optimizers.items()}}

    def _save(self) -> None:
        """The best model first, then the state that knows of it: a kill in between costs nothing. After a step that was left out, the model alone."""
        if self.accelerator.is_main_process:
            if self.pending_best is not None:
                self._save_best(self.pending_best)
                self.pending_best = None
            if not self.counters.in_a_row:
                self.counters.averaged = 0 if self.average is None else self.average.steps
                self.counters.scaler = self.accelerator.scaler.state_dict() if self.plan.precision == "fp16" else {}
                if self.average is not None:
                    self.average.evaluated()
                self.checkpoint.save(self._modules(), self._optimizers(), asdict(self.counters))
        self.saved = time.perf_counter()

    def _save_best(self, weights: dict[str, Tensor]) -> None:
        r = self.recipe
        recipe: dict[str, Any] = {"name": r.name, "options": dict(r.options), "objective": spec(r.objective)}
        recipe |= {"penalties": [spec(p) for p in r.penalties], "critics": {k: spec(v) for k, v in r.critics.items()}}
        save_model(self.run.best, self.model, weights, recipe=recipe, data=self.data.spec.to_json())

    def _restore(self) -> None:
        self.counters = Counters(**self.checkpoint.load(self._modules(), self._optimizers()))
        if self.average is not None:
            self.average.steps = self.counters.averaged
        if self.counters.scaler:
            self.accelerator.scaler.load_state_dict(self.counters.scaler)
        self.saved = time.perf_counter()

    def _roll_back(self) -> None:
        now = self.counters
        what = "were not finite"
        if self.beyond is not None:
            what = f"had a gradient beyond --skip {self.training.skip:g} (the last one of {self.beyond:,.0f} nats)"
        if now.rollbacks == ROLLBACKS:
            first = "Try" if self.beyond is None else "Raise --skip where such norms are usual, or try"
            raise UserError(
                f"Training diverged {ROLLBACKS} times: {PATIENCE} steps in a row {what}, each time with a lower rate. "
                f"{first} a smaller --lr, --precision fp32, or another likelihood; and look for extreme values in the data."
            )
        scaler = self.accelerator.scaler.state_dict() if self.plan.precision == "fp16" else {}
        self._restore()
        if scaler:
            self.accelerator.scaler.load_state_dict(scaler)
        self.counters.rate_scale, self.counters.rollbacks = now.rate_scale / 2, now.rollbacks + 1
        self.counters.skipped, self.counters.seconds, self.counters.validating = now.skipped, now.seconds, now.validating
        self.counters.in_a_row = 0
        self.pending_best = None
        if self.accelerator.is_main_process:
            self.run.forget_after(self.counters.images)
        self._save()
        rate = f"with the learning rate times {self.counters.rate_scale:g}"
        self.watcher.say(f"{PATIENCE} steps in a row {what}: back to {self.counters.images:,} images, {rate}.")
