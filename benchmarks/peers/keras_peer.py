"""The tutorial's network in Keras on TensorFlow: a model with its own `train_step`, compiled and trained by `fit`."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import math

import keras
import numpy as np
import tensorflow as tf
from common import Clock, arguments, images, report
from keras import layers, ops

LATENT = 16


def encoder() -> keras.Model:
    x = pixels = keras.Input((28, 28, 1))
    for width in (16, 32):
        x = layers.Conv2D(width, 3, strides=2, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))
    x = layers.Dense(256, activation="relu")(layers.Flatten()(x))
    return keras.Model(pixels, layers.Dense(2 * LATENT)(x))


def decoder() -> keras.Model:
    code = keras.Input((LATENT,))
    x = layers.Dense(256, activation="relu")(code)
    x = layers.Reshape((7, 7, 32))(layers.Dense(7 * 7 * 32, activation="relu")(x))
    x = layers.Conv2DTranspose(16, 4, strides=2, padding="same")(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))
    return keras.Model(code, layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid")(x))


class VAE(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder()
        self.log_sigma = self.add_weight(shape=(), initializer=keras.initializers.Constant(math.log(0.25)), name="log_sigma")
        self.seeds = keras.random.SeedGenerator(0)
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list:
        return [self.loss_tracker]

    def call(self, x, training=False):
        """Minus the ELBO, in nats per image of pixels in [0,1]."""
        mean, log_variance = ops.split(self.encoder(x, training=training), 2, axis=1)
        z = mean + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean), seed=self.seeds)
        error = ops.sum(ops.square(x - self.decoder(z, training=training)), axis=(1, 2, 3))
        distortion = 0.5 * error * ops.exp(-2 * self.log_sigma) + 784 * (self.log_sigma + 0.5 * math.log(2 * math.pi))
        rate = 0.5 * ops.sum(ops.square(mean) + ops.exp(log_variance) - 1 - log_variance, axis=1)
        return ops.mean(distortion + rate)

    def train_step(self, x):
        with tf.GradientTape() as tape:
            loss = self(x, training=True)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


class Timer(keras.callbacks.Callback):
    def __init__(self, clock: Clock, batch_size: int) -> None:
        super().__init__()
        self.clock, self.batch_size = clock, batch_size

    def on_train_batch_end(self, batch, logs=None):
        if self.clock.step(self.batch_size):
            self.model.stop_training = True


def main() -> None:
    args = arguments()
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    keras.utils.set_random_seed(0)
    data = images(args.data)[..., None].astype(np.float32) / 255
    data = data[: len(data) // args.batch_size * args.batch_size]  # whole batches, so that counting steps counts images
    model = VAE()
    model.compile(optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8), jit_compile="auto")
    first = float(model(data[:1000]))
    clock = Clock(args.warmup, args.images)
    model.fit(data, batch_size=args.batch_size, epochs=1000, verbose=0, callbacks=[Timer(clock, args.batch_size)])
    report(first, float(model(data[:1000])))


if __name__ == "__main__":
    main()
