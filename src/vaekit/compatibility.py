"""Which parts go together: parts say what they need and what they give, and one rule refuses the rest in one sentence."""

from collections.abc import Iterable

from vaekit.errors import UserError

CAPABILITIES = {
    "density": "a density log q(z|x) of its training samples",
    "stopped": "a density log q(z|x) whose parameters can be held fixed",
    "anywhere": "a density that is cheap at any code, not only at its own samples",
    "factorized": "a posterior that factorizes over the dimensions of the code",
    "moments": "a posterior with mean and variance in closed form",
    "comparable": "a closed-form divergence between two of its posteriors",
    "divergence": "a divergence from the prior",
    "vector": "codes that are real vectors",
    "single": "one stochastic layer",
    "classes": "a categorical code, one value for each class",
}
"""What a latent may give, in words."""


def missing(needs: Iterable[str], gives: Iterable[str]) -> list[str]:
    """The capabilities that are needed and not given."""
    lacking = set(needs) - set(gives)
    return [name for name in CAPABILITIES if name in lacking]


def refusal(who: str, needs: Iterable[str], whom: str, gives: Iterable[str]) -> str | None:
    """Why `who` does not go with `whom`, in one sentence, or None if it does."""
    lacking = missing(needs, gives)
    return f"{who} does not go with {whom}: it needs {' and '.join(CAPABILITIES[name] for name in lacking)}." if lacking else None


def require(who: str, needs: Iterable[str], whom: str, gives: Iterable[str]) -> None:
    """Raises `UserError` with the refusal, if there is one."""
    sentence = refusal(who, needs, whom, gives)
    if sentence:
        raise UserError(sentence)
