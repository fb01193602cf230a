"""How a weight moves over a run. Time is the fraction of the run that is done, so that a shorter run is the same run in small."""

import abc

from vaekit.errors import UserError
from vaekit.part import Part


class Schedule(Part):
    """A weight as a function of the fraction of the run."""

    @abc.abstractmethod
    def at(self, fraction: float) -> float:
        """The weight at this fraction (0 to 1) of the run."""


class Constant(Schedule):
    """Always the same."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = value

    def at(self, fraction: float) -> float:
        return self.value


class Warmup(Schedule):
    """Linear from `start` to `end` over the first `fraction` of the run, then `end`.

    References: Ladder Variational Autoencoders (Sonderby et al., 2016), section 2.3, https://arxiv.org/abs/1602.02282
    """

    def __init__(self, fraction: float = 0.1, start: float = 0.0, end: float = 1.0) -> None:
        super().__init__()
        self.fraction, self.start, self.end = fraction, start, end

    def at(self, fraction: float) -> float:
        done = 1.0 if self.fraction <= 0 else min(fraction / self.fraction, 1.0)
        return self.start + done * (self.end - self.start)


class Annealing(Schedule):
    """From `start` to `end` by equal factors in equal times over the first `fraction` of the run, then `end`.

    References: beta-Annealed Variational Autoencoder for glitches (Sankarapandian, Kulis, 2021), https://arxiv.org/abs/2107.10667

    Raises:
        UserError: where either end is not above 0.
    """

    def __init__(self, fraction: float = 0.6, start: float = 64.0, end: float = 1.0) -> None:
        super().__init__()
        if not (start > 0 and end > 0):
            raise UserError(f"A weight falls by factors between two numbers above 0, and not from {start:g} to {end:g}.")
        self.fraction, self.start, self.end = fraction, start, end

    def at(self, fraction: float) -> float:
        done = 1.0 if self.fraction <= 0 else min(fraction / self.fraction, 1.0)
        return self.end if done == 1.0 else self.start * (self.end / self.start) ** done


class Cyclical(Schedule):
    """`cycles` times: linear from 0 to `end` over the first `ramp` of the cycle, then `end`.

    References: Cyclical Annealing Schedule (Fu et al., 2019), Eq. 6-8, https://arxiv.org/abs/1903.10145
    """

    def __init__(self, cycles: int = 4, ramp: float = 0.5, end: float = 1.0) -> None:
        super().__init__()
        self.cycles, self.ramp, self.end = cycles, ramp, end

    def at(self, fraction: float) -> float:
        if fraction >= 1.0:
            return self.end
        within = (fraction * self.cycles) % 1.0
        return self.end * min(within / self.ramp, 1.0) if self.ramp > 0 else self.end
