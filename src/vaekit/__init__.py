"""vaekit: variational autoencoders on your own images."""

__version__ = "0.1.0"
