"""p(x|z): what the decoder's output says of the raw values."""

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.bernoulli import Bernoulli
from vaekit.likelihoods.categorical import Categorical
from vaekit.likelihoods.causal import Causal
from vaekit.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vaekit.likelihoods.gaussian import Gaussian
from vaekit.likelihoods.laplace import Laplace
from vaekit.likelihoods.logistic import Logistic
from vaekit.likelihoods.mixture import Mixture

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous-bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "logistic": Logistic,
    "mixture": Mixture,
    "categorical": Categorical,
    "causal": Causal,
}


def for_data(name: str | None, data: DataSpec, **options: object) -> Likelihood:
    """The likelihood of that name for this data.

    Args:
        name: one of `LIKELIHOODS`; None chooses bernoulli for binary pixels and gaussian, with a learned sigma, for all else.
        data: what the values are.
        options: of the likelihood; those that are None count as not given.

    Raises:
        UserError: for an unknown name, an option that this likelihood does not have, or data that it cannot score.
    """
    name = name or ("bernoulli" if data.levels == 2 else "gaussian")
    if name not in LIKELIHOODS:
        raise UserError(f"There is no likelihood '{name}': choose one of {', '.join(LIKELIHOODS)}.")
    return LIKELIHOODS[name].for_data(data, **options)


__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "Causal",
    "ContinuousBernoulli",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "Logistic",
    "Mixture",
    "for_data",
]
