"""Few labels: the clamped class, what it costs, what teaches the classifier, and that nothing else looks at labels."""

import math

import pytest
import torch
from sklearn.datasets import load_digits

import vaekit
from tests.contracts.examples import batch, scrambled, spec_of
from vaekit.distributions.relaxed_categorical import OneHots
from vaekit.errors import UserError
from vaekit.evaluation.classification import class_probabilities, classifies, label_accuracy
from vaekit.latents import DiagonalGaussian, StandardNormal
from vaekit.latents.labelled import LabelledCategories
from vaekit.latents.posteriors.categorical import RelaxedCategorical
from vaekit.latents.priors.categories import UniformCategories
from vaekit.objectives import ELBO
from vaekit.output import Batch
from vaekit.penalties.classification import ClassificationPenalty
from vaekit.recipes import build_recipe
from vaekit.recipes import semi_supervised as recipe_module  # noqa: F401 (registers the recipe)
from vaekit.testing import check_gradients, check_latent, check_model, check_penalty, check_spec
from vaekit.training import Silent
from vaekit.training.task import Task

K = 4
LABEL = torch.tensor([2, -1, 0, -1, 3, 1])


def latent() -> LabelledCategories:
    return LabelledCategories(RelaxedCategorical(8, 1, K), UniformCategories(1, K))


def model() -> vaekit.VAE:
    return scrambled(build_recipe("semi-supervised", spec_of([1, 12, 12], classes=("a", "b", "c", "d")), scale=0.25).model)


def images() -> Batch:
    """Always the same six."""
    x = torch.randint(0, 256, (6, 1, 12, 12), generator=torch.Generator().manual_seed(1)).byte()
    return Batch(x, label=LABEL, index=torch.arange(6))


def test_contracts() -> None:
    check_spec(latent())
    check_latent(latent(), torch.randn(6, 8))
    check_model(model(), images())
    check_penalty(ClassificationPenalty(), model().train(), images())


def test_a_known_class_is_clamped_and_costs_log_k() -> None:
    """z is the one-hot label and the rate log K exactly; the others pay the KL of their categorical from the uniform, as torch has it."""
    part, h = latent().train(), torch.randn(6, 8)
    z, (term,) = part.infer(h, label=LABEL)
    known = LABEL >= 0
    assert torch.equal(z[known], torch.nn.functional.one_hot(LABEL[known], K).float())
    assert ((z[~known] > 0) & (z[~known] < 1)).all()
    assert torch.allclose(term.rate()[known], torch.full((4,), math.log(K)))
    logits = part.posterior.head(h)
    uniform = torch.distributions.Categorical(logits=torch.zeros(K))
    expected = torch.distributions.kl_divergence(torch.distributions.Categorical(logits=logits), uniform)
    assert torch.allclose(term.rate()[~known], expected[~known], atol=1e-6)
    assert torch.isfinite(term.entropy()).all() and torch.allclose(term.entropy()[known], torch.zeros(4), atol=1e-6)


def test_the_bound_of_a_labelled_image_does_not_reach_the_classifier() -> None:
    """Clamping cuts the gradient, exactly: neither the code nor the rate of a labelled image depends on q(y|x). Those of the others do."""
    part, h = latent().train(), torch.randn(6, 8)
    z, (term,) = part.infer(h, label=LABEL)
    loss = (z * torch.randn(6, K)).sum(1) + term.rate()
    for i in range(6):
        (gradient,) = torch.autograd.grad(loss[i], part.posterior.head.weight, retain_graph=True)
        assert torch.isfinite(gradient).all() and (gradient.abs().sum() > 0) == (LABEL[i] < 0)


def test_the_classification_term_is_the_cross_entropy() -> None:
    """-log q(y|x) as torch has it, before the clamping, with its gradient; nothing for an image without a label; nats per labelled image."""
    net = model().train()
    out = net(images())
    value = ClassificationPenalty(50.0)(out)
    logits = net.latent.parts[1].posterior.head(net._encode(images(), None))
    expected = torch.nn.functional.cross_entropy(logits, LABEL, ignore_index=-1, reduction="none")
    assert torch.allclose(value, expected, atol=1e-5) and (value[LABEL < 0] == 0).all()
    assert torch.allclose(ClassificationPenalty()(net(images(), k=3)), expected, atol=1e-5)
    assert (ClassificationPenalty()(net(Batch(images().x))) == 0).all()
    one = torch.autograd.grad(value.sum(), net.latent.parts[1].posterior.head.weight)[0]
    two = torch.autograd.grad(expected.sum(), net.latent.parts[1].posterior.head.weight)[0]
    assert torch.allclose(one, two, atol=1e-4)


def test_the_penalty_does_not_depend_on_the_batch() -> None:
    """The weight that peers let grow or shrink with the batch: the value of an image is the same alone and among others."""
    net = model().train()
    whole = ClassificationPenalty()(net(images()))
    alone = torch.cat([ClassificationPenalty()(net(images()[i : i + 1])) for i in range(6)])
    assert torch.allclose(whole, alone, atol=1e-4)


def test_evaluation_never_sees_labels() -> None:
    net, x = model(), images()
    infer, seen = type(net.latent).infer, []

    def watched(self: object, *a: object, **k: object) -> object:
        seen.append(k.get("label"))
        return infer(self, *a, **k)

    type(net.latent).infer = watched
    try:
        net.train()
        for call in (net.encode, net.reconstruct, net.score, lambda b: class_probabilities(net, b), lambda b: label_accuracy(net, [b])):
            call(x)
            assert seen and all(label is None for label in seen), "an evaluation looks at labels"
            seen.clear()
        vaekit.evaluation.evaluate_batches(net, [x])
        assert all(label is None for label in seen)
        seen.clear()
        net.train()(x)
        assert torch.equal(seen[0], LABEL)
    finally:
        type(net.latent).infer = infer
    net.eval()
    torch.manual_seed(0)
    one = net(x)
    torch.manual_seed(0)
    other = net(Batch(x.x, label=3 - x.label.clamp_min(0)))
    assert torch.equal(one.log_px, other.log_px) and torch.equal(one.rate(), other.rate())


def test_in_eval_mode_the_code_is_one_class_and_the_bound_is_one() -> None:
    """An exact draw: the expected ELBO over the class is below log p(x) summed over classes (here with the Gaussian code fixed)."""
    part = latent().eval()
    h = torch.randn(3, 8)
    z, (term,) = part.infer(h, label=None)
    assert isinstance(term.q, OneHots) and ((z == 0) | (z == 1)).all() and (z.sum(1) == 1).all()
    log_px = torch.randn(3, K)
    q = term.q.probs.squeeze(1)
    elbo = (q * log_px).sum(1) - term.rate()
    assert (elbo <= (log_px - math.log(K)).logsumexp(1) + 1e-5).all()


def test_accuracy() -> None:
    net = model()
    x = images()
    found = class_probabilities(net.eval(), x).argmax(1)
    assert label_accuracy(net, [Batch(x.x, label=found)]) == 1.0
    half = torch.where(torch.arange(6) < 3, found, (found + 1) % K)
    assert label_accuracy(net, [Batch(x.x, label=half)]) == 0.5
    assert label_accuracy(net, [Batch(x.x, label=torch.where(torch.arange(6) < 4, half, -1))]) == 0.75
    assert label_accuracy(net, [Batch(x.x)]) is None and label_accuracy(net, [Batch(x.x, label=torch.full((6,), -1))]) is None
    plain = build_recipe("tutorial", spec_of([1, 12, 12])).model
    assert not classifies(plain) and label_accuracy(plain, [x]) is None
    with pytest.raises(UserError, match="no code for the class"):
        class_probabilities(plain, x)


def test_errors() -> None:
    with pytest.raises(UserError, match="no classes to learn"):
        build_recipe("semi-supervised", spec_of([1, 12, 12]))
    with pytest.raises(UserError, match="one categorical variable"):
        LabelledCategories(RelaxedCategorical(8, 2, 3), UniformCategories(2, 3))
    with pytest.raises(UserError, match="one categorical variable"):
        LabelledCategories(DiagonalGaussian(8, 3), StandardNormal([3]))
    plain = build_recipe("tutorial", spec_of([1, 12, 12])).model
    with pytest.raises(UserError, match="no categorical code"):
        ClassificationPenalty()(plain(batch(3, [1, 12, 12])))
    with pytest.raises(UserError, match="needs a categorical code"):
        vaekit.recipes.Recipe(plain, ELBO(), (ClassificationPenalty(),))


def test_every_parameter_learns() -> None:
    net = model()
    check_gradients(net, Task(net, ELBO(), (ClassificationPenalty(50.0),))(images()).loss)


def test_digits_with_a_hundred_labels(capsys: pytest.CaptureFixture[str]) -> None:
    """Far above chance (10 %) on the test split; the labels that are not shown do not matter."""
    digits = load_digits()
    x, y = (digits.images * 15).astype("uint8"), digits.target
    run = vaekit.fit("semi-supervised", (x, y), labels=100, epochs=8, scale=0.2, latent=8, precision="fp32", watcher=Silent())
    data = vaekit.open_data((x, y), labels=100)
    figures = vaekit.evaluation.report(run.model, run.spec, lambda: data.batches("test", 128), samples=None)
    with capsys.disabled():
        print(f"\nlabel accuracy with 100 labels: {figures['label_accuracy']:.3f}")
    assert figures["label_accuracy"] > 0.7
    assert figures["elbo_nats"] is not None
