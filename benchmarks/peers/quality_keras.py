"""The published networks (two gated layers of 300, 40 latents) in Keras on TensorFlow, trained by `fit` on bits drawn afresh in every step."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from quality import Clock, Watch, arguments, bits, over, report, streamed

LATENT, WIDTH = 40, 300


def gated(x: Any) -> Any:
    return layers.Multiply()([layers.Dense(WIDTH)(x), layers.Dense(WIDTH, activation="sigmoid")(x)])


def encoder() -> keras.Model:
    pixels = keras.Input((784,))
    return keras.Model(pixels, layers.Dense(2 * LATENT)(gated(gated(pixels))))


def decoder() -> keras.Model:
    code = keras.Input((LATENT,))
    return keras.Model(code, layers.Dense(784)(gated(gated(code))))


def log_bernoulli(x: Any, logits: Any) -> Any:
    """log p(x|z) in nats, summed over the last axis."""
    return -ops.sum(ops.softplus(logits) - x * logits, axis=-1)


class VAE(keras.Model):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder()
        self.seeds, self.scoring = keras.random.SeedGenerator(seed), keras.random.SeedGenerator(1)
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list:
        return [self.loss_tracker]

    def elbo(self, x: Any, seeds: Any) -> Any:
        """With one sample and the divergence in closed form, [n] nats."""
        mean, log_variance = ops.split(self.encoder(x), 2, axis=1)
        z = mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean), seed=seeds)
        rate = 0.5 * ops.sum(ops.square(mean) + ops.exp(log_variance) - 1 - log_variance, axis=1)
        return log_bernoulli(x, self.decoder(z)) - rate

    @tf.function(reduce_retracing=True)
    def scored(self, x: Any) -> Any:
        return self.elbo(x, self.scoring)

    @tf.function(reduce_retracing=True)
    def log_weights(self, x: Any, mean: Any, log_variance: Any, g: Any) -> Any:
        """g draws of log p(x,z) - log q(z|x), [g, n]; log p(z) and log q(z|x) have the same constant."""
        noise = keras.random.normal((g, ops.shape(mean)[0], LATENT), seed=self.scoring)
        z = mean + ops.exp(0.5 * log_variance) * noise
        ratio = -0.5 * ops.sum(ops.square(z), axis=-1) + 0.5 * ops.sum(ops.square(noise) + log_variance, axis=-1)
        logits = ops.reshape(self.decoder(ops.reshape(z, (-1, LATENT))), (g, -1, 784))
        return log_bernoulli(x, logits) + ratio

    def bound(self, x: np.ndarray, samples: int) -> np.ndarray:
        """The importance-weighted bound, [n] nats."""
        mean, log_variance = ops.split(self.encoder(x), 2, axis=1)
        return streamed(lambda g: self.log_weights(x, mean, log_variance, tf.constant(g)).numpy(), samples)

    def call(self, x: Any, training: bool = False) -> Any:
        return -ops.mean(self.elbo(x, self.seeds))

    def train_step(self, grey: Any) -> dict[str, Any]:
        x = ops.cast(keras.random.uniform(ops.shape(grey), seed=self.seeds) < grey, "float32")
        with tf.GradientTape() as tape:
            loss = self(x, training=True)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


class Checks(keras.callbacks.Callback):
    """Checks the model after each pass, and ends it when the time is over."""

    def __init__(self, validation: np.ndarray, watch: Watch, budget: float, size: int, count: int) -> None:
        super().__init__()
        self.validation, self.watch, self.budget, self.size, self.count = validation, watch, budget, size, count
        self.images = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.left = self.count

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.images, self.left = self.images + min(self.size, self.left), self.left - self.size
        self.watch.started()
        if self.watch.clock.seconds() >= self.budget:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = self.watch.clock.seconds()
        with self.watch.clock.stopped():
            value = over(self.validation, lambda x: self.model.scored(x).numpy()).mean()
            if place := self.watch.check(seconds, self.images, float(value)):
                with open(place, "wb") as file:
                    np.savez(file, *self.model.get_weights())


def main() -> None:
    args = arguments()
    watch = Watch(Clock(args), args.every, Path.cwd())
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    keras.utils.set_random_seed(args.seed)
    grey = np.load(args.data / "train.npy").reshape(-1, 784).astype(np.float32) / 255
    model = VAE(args.seed)
    model.compile(optimizer=keras.optimizers.Adam(args.lr, epsilon=1e-8), jit_compile="auto")
    model(grey[:2])
    checks = Checks(bits(args.data, "validation", args.images), watch, args.budget, args.batch_size, len(grey))
    model.fit(grey, batch_size=args.batch_size, epochs=10**6, verbose=0, callbacks=[checks])
    test = bits(args.data, "test", args.images)

    def score(place: Path) -> tuple[np.ndarray, np.ndarray]:
        with np.load(place) as file:
            model.set_weights([file[name] for name in file.files])
        return over(test, lambda x: model.scored(x).numpy()), over(test, lambda x: model.bound(x, args.samples))

    report(watch, args, score, parameters=sum(int(np.prod(w.shape)) for w in model.trainable_weights))


if __name__ == "__main__":
    main()
