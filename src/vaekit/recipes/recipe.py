"""A recipe is a whole variant: which part stands at each place, and how it is trained."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal

from vaekit import likelihoods
from vaekit.compatibility import require
from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat, Latent, StandardNormal
from vaekit.latents.fitted import Fitted
from vaekit.model import VAE
from vaekit.networks import AttributeCondition, ClassCondition, Condition, Decoder, Encoder
from vaekit.objectives import ELBO, Objective, Schedule, Warmup
from vaekit.penalties import Critic, Penalty
from vaekit.recipes.knobs import Knobs
from vaekit.training.options import Training

ALL = 10**9
"""More images or codes than there are: a start that is the fit itself."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, by what, and how."""

    model: VAE | Fitted
    """A `Fitted` prior is to the loop a model without latents."""
    objective: Objective = field(default_factory=ELBO)
    penalties: tuple[Penalty, ...] = ()
    critics: Mapping[str, Critic] = field(default_factory=dict)
    defaults: Training = field(default_factory=Training)
    select: Literal["elbo", "last"] = "elbo"
    """Which weights are the run's model: those with the best validation ELBO, or the last, where the recipe is after something else."""
    start: int = 1024
    """How many training images the data-dependent start looks at."""
    name: str = "custom"
    data: DataSpec | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """The setting that it was built from, so that it can be built again for other data."""

    def __post_init__(self) -> None:
        if self.model.latent is None:  # a prior of codes, which has no latents of its own
            return
        gives, whom = self.model.latent.gives, described(self.model.latent)
        require(type(self.objective).__name__, self.objective.needs, whom, gives)
        for penalty in self.penalties:
            require(type(penalty).__name__, penalty.needs, whom, gives)

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned, or will have."""
        return sum(p.numel() for p in self.model.parameters())

    def for_data(self, data: DataSpec) -> "Recipe":
        """The same recipe with fresh weights for other data."""
        if self.name not in RECIPES:
            raise UserError("This model was put together by hand for other data: build its likelihood and networks for these.")
        return build_recipe(self.name, data, **self.options)


def described(latent: Latent) -> str:
    """A latent in words, for the end of a sentence: its class, and for a flat one its posterior."""
    return type(latent.posterior).__name__ if isinstance(latent, Flat) else type(latent).__name__


@dataclass(frozen=True)
class Setting:
    """What a recipe is told: the data, and the knobs that every recipe has."""

    data: DataSpec
    latent: int | None = None
    """Number of latent dimensions, the knob of complexity; None for the recipe's own."""
    scale: float = 1.0
    """Width and depth of the networks together; 1 is the recipe's own."""
    likelihood: str | None = None
    sigma: float | str | None = None
    condition: str | None = None
    """None, "class" or "attributes"."""
    beta: float | None = None
    free_bits: float | None = None
    warmup: float | None = None
    knobs: Mapping[str, float | str] = field(default_factory=dict)
    """What this recipe alone has, by name (see `knob`)."""
    own: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's own values of knobs that it shares with others."""
    asked: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The knobs that the recipe has asked for, with their own values."""

    def __post_init__(self) -> None:
        if self.latent is not None and not 1 <= self.latent <= 65536:
            raise UserError(f"The latent size is a number of dimensions, 2 to 512 as a rule, and it is {self.latent}.")
        if not 0 < self.scale <= 64:
            raise UserError(f"scale multiplies the width of the networks (1 is the recipe's own), and it is {self.scale}.")
        for name in ("beta", "free_bits"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"--{name.replace('_', '-')} is a number of at least 0, and it is {value}.")
        if self.warmup is not None and not 0 <= self.warmup <= 1:
            raise UserError(f"--warmup is a fraction of the run, 0 to 1, and it is {self.warmup}.")

    def knob(self, name: str, own: Any, least: int = 1) -> Any:
        """A number or a word that this recipe alone has (a codebook's size, a penalty's weight): as it was set, or the recipe's own. A whole
        number is at least `least`.

        Raises `UserError` if it was set to something of another kind.
        """
        return Knobs(self.knobs, self.asked)(name, self.own.get(name, own), least=least)

    def refuse(self, **why: str) -> None:
        """Raises `UserError` for an option that has no meaning here: better than to ignore it."""
        for option, reason in why.items():
            if getattr(self, option) is not None:
                raise UserError(f"This recipe has no use for --{option.replace('_', '-')}: {reason}.")

    def refuse_weight(self, why: str) -> None:
        """`refuse` of all that weighs the divergence."""
        self.refuse(beta=why, free_bits=why, warmup=why)

    def with_sigma(self, sigma: float | str) -> "Setting":
        """The setting with the recipe's own sigma, where the likelihood has one and the user has not set it."""
        has = self.likelihood in ("gaussian", "laplace") or (self.likelihood is None and self.data.levels != 2)
        return replace(self, sigma=sigma) if has and self.sigma is None else self

    def wide(self, width: int) -> int:
        """A width at this scale, a multiple of 4."""
        return max(4, round(width * self.scale / 4) * 4)

    def deep(self, depth: int) -> int:
        """A depth at this scale: one more for each doubling."""
        return max(1, depth + math.floor(math.log2(self.scale)))

    def objective(self, warmup: float = 0.0) -> ELBO:
        """The ELBO, with the divergence's weight, warm-up and free bits as asked for."""
        end = 1.0 if self.beta is None else self.beta
        ramp = warmup if self.warmup is None else self.warmup
        beta: float | Schedule = Warmup(ramp, 0.0, end) if ramp > 0 else end
        return ELBO(beta=beta, free_bits=self.free_bits or 0.0)

    def embedding(self) -> Condition | None:
        """What embeds the condition."""
        if self.condition is None:
            return None
        if self.condition == "class":
            if len(self.data.classes) < 2:
                raise UserError("There are no classes to condition on: put the images of each class into a sub-folder of its own.")
            return ClassCondition(len(self.data.classes))
        if not self.data.attributes:
            raise UserError("There are no attributes to condition on: name a CSV file with one row for each image.")
        return AttributeCondition(len(self.data.attributes))

    def condition_width(self) -> int:
        """G, the width of the embedded condition, 0 for none: what networks and priors take as `condition`."""
        embedding = self.embedding()
        return 0 if embedding is None else embedding.features

    def vae(
        self,
        latent: int,
        encoder: Callable[[int], Encoder],
        decoder: Callable[[list[int], int], Decoder],
        code: Callable[[int], Latent] | None = None,
        sigma: float | str | None = None,
    ) -> VAE:
        """A VAE for this data: `encoder(condition)`, `decoder([P, H, W], condition)`, `code(features)` (a flat Gaussian if none is given).

        `sigma` is the recipe's own choice, where the likelihood has one.
        """
        own = self if sigma is None else self.with_sigma(sigma)
        likelihood = likelihoods.for_data(self.likelihood, self.data, sigma=own.sigma, **self._likelihood_knobs())
        channels, height, width = self.data.shape
        condition = self.embedding()
        embedded = 0 if condition is None else condition.features
        net = encoder(embedded)
        flat = code(net.features) if code else Flat(DiagonalGaussian(net.features, latent), StandardNormal([latent]))
        return VAE(net, flat, decoder([likelihood.channels(channels), height, width], embedded), likelihood, condition)

    def _likelihood_knobs(self) -> dict[str, Any]:
        """The sizes of the causal likelihood's network, which are knobs of any recipe that has it: `causal_width` and so on."""
        if self.likelihood != "causal":
            return {}
        return {name: self.knob(f"causal_{name}", own, least) for name, (own, least) in likelihoods.Causal.sizes.items()}


SETTING_OPTIONS = tuple(k for k in Setting.__dataclass_fields__ if k not in ("data", "condition", "own", "asked"))
"""The knobs that a person turns; the condition comes with the data."""


@dataclass(frozen=True)
class Entry:
    """A line of the index of recipes."""

    name: str
    build: Callable[[Setting], Recipe]
    year: int
    paper: str
    url: str
    data: str
    good_for: str

    def to_json(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in ("name", "year", "paper", "url", "data", "good_for")}


EXAMPLE = DataSpec("pixels", (1, 28, 28), 256, ("a", "b"), (), 60_000, (72.9,), (90.0,))
"""Small grey images, for what is asked of a recipe before there are any."""
RECIPES: dict[str, Entry] = {}
DEFAULT = "realnvp"


def recipe(name: str, *, year: int, paper: str, url: str, good_for: str, data: str = "images") -> Callable:
    """Registers a function from a `Setting` to a `Recipe` under its name."""

    def register(build: Callable[[Setting], Recipe]) -> Callable[[Setting], Recipe]:
        RECIPES[name] = Entry(name, build, year, paper, url, data, good_for)
        return build

    return register


def knobs(name: str) -> dict[str, Any]:
    """The knobs of the recipe of this name, with its own values for small grey images."""
    setting = Setting(EXAMPLE)
    _entry(name).build(setting)
    return setting.asked


def check_names(name: str, options: Mapping[str, Any]) -> None:
    """Raises `UserError` for what is wrong whatever the data are: the name of a recipe or of a likelihood, and numbers that make no sense."""
    _entry(name)
    setting = Setting(EXAMPLE, **options)
    if setting.likelihood is not None and setting.likelihood not in likelihoods.LIKELIHOODS:
        raise UserError(f"There is no likelihood '{setting.likelihood}'; there are {', '.join(likelihoods.LIKELIHOODS)}.")


def _entry(name: str) -> Entry:
    if name not in RECIPES:
        close = get_close_matches(name, RECIPES, 1)
        raise UserError(f"There is no recipe '{name}'{f': did you mean {close[0]}?' if close else '.'} There are {', '.join(RECIPES)}.")
    return RECIPES[name]


def build_recipe(name: str, data: DataSpec, **options: Any) -> Recipe:
    """The recipe of this name for this data; `options` are the fields of `Setting`."""
    entry = _entry(name)
    unknown = set(options) - {*SETTING_OPTIONS, "condition"}
    if unknown:
        raise UserError(f"A recipe has no option '{sorted(unknown)[0]}'; it has {', '.join((*SETTING_OPTIONS, 'condition'))}.")
    options = {k: v for k, v in options.items() if v is not None and v != {}}
    setting = Setting(data, **options)
    built = entry.build(setting)
    Knobs(setting.knobs, setting.asked).refuse_others(f"The recipe {name}")
    # The ELBO's best weights are those of another objective, where it is another that was asked for: of the first passes, as a rule.
    select = "last" if isinstance(built.objective, ELBO) and not built.objective.is_bound else built.select
    return replace(built, name=name, data=data, options=options, select=select)
