"""Paths and directions of codes: against decoders whose images are known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from tests.test_traverse import SCALES, images, pixels
from vaekit import editing
from vaekit.data import open_data
from vaekit.editing.interpolate import linear, spherical
from vaekit.editing.relax import action, relaxed
from vaekit.errors import UserError
from vaekit.latents.fitted import Fitted
from vaekit.latents.priors.flow_matching import FlowMatching
from vaekit.latents.priors.full_mixture import FullMixturePrior
from vaekit.latents.priors.mixture import MixturePrior
from vaekit.networks.condition import ClassCondition, OneHotCondition
from vaekit.networks.velocity import VelocityMLP
from vaekit.output import Batch

S = torch.tensor(SCALES)


def code(x: Tensor) -> Tensor:
    """Of the images of `pixels`: each pixel times its scale; its decoder shows the code itself."""
    return x.flatten(1) * S


def shown(z: Tensor) -> Tensor:
    return z.view(*z.shape[:-1], 1, 1, 4)


# ---- interpolation


def test_a_linear_path_is_a_line_of_images() -> None:
    model, x = pixels(), images(6)
    path = editing.interpolate(model, x[:3], x[3:], 5)
    t = torch.linspace(0, 1, 5).view(1, 5, 1)
    z = (1 - t) * code(x[:3])[:, None] + t * code(x[3:])[:, None]
    assert torch.allclose(path.images, shown(z), atol=1e-6)
    assert torch.allclose(path.log_p, -0.5 * z.square().sum(-1) - 2 * math.log(2 * math.pi), atol=1e-4)
    assert torch.allclose(path.images[:, 0], model.reconstruct(x[:3])) and torch.allclose(path.images[:, -1], model.reconstruct(x[3:]))


def test_an_arc_keeps_the_norm_and_even_angles() -> None:
    a, b = torch.randn(5, 7), torch.randn(5, 7)
    same = b * (a.norm(dim=1) / b.norm(dim=1)).unsqueeze(1)
    t = torch.linspace(0, 1, 9)
    arc = spherical(a, same, t)
    assert torch.allclose(arc.norm(dim=2), a.norm(dim=1, keepdim=True).expand(5, 9), rtol=1e-5)
    u = arc / arc.norm(dim=2, keepdim=True)
    cosines = (u[:, 1:] * u[:, :-1]).sum(2)
    whole = torch.nn.functional.cosine_similarity(a, b).arccos()
    assert torch.allclose(cosines.arccos(), (whole / 8).unsqueeze(1).expand(5, 8), atol=2e-3)
    # Norms that differ pass evenly from one to the other, and the ends are those that were given.
    arc = spherical(a, b, t)
    assert torch.allclose(arc.norm(dim=2), linear(a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True), t)[..., 0], rtol=1e-5)
    assert torch.allclose(arc[:, 0], a, atol=1e-5) and torch.allclose(arc[:, -1], b, atol=1e-5)
    # By hand: from (1, 0) to (0, 1), a third of the way is 30 degrees.
    third = spherical(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([1 / 3]))[0, 0]
    assert torch.allclose(third, torch.tensor([math.sqrt(3) / 2, 0.5]))


def test_arcs_without_an_angle() -> None:
    a, t = torch.randn(2, 4), torch.linspace(0, 1, 4)
    assert torch.allclose(spherical(a, 3 * a, t), linear(a, 3 * a, t), atol=1e-6)
    assert torch.allclose(spherical(a, 0 * a, t), linear(a, 0 * a, t), atol=1e-6)
    with pytest.raises(UserError, match="opposite"):
        spherical(a, -2 * a, t)


def test_the_relaxed_path_of_a_standard_normal_is_known() -> None:
    """Of n steps: sinh(k(n - i)) a + sinh(k i) b over sinh(k n), with 2 cosh k = 2 + w / n^2; the straight line without a prior."""
    a, b, n, w = torch.randn(3, 4), torch.randn(3, 4), 8, 5.0
    start = linear(a, b, torch.linspace(0, 1, n + 1))

    def density(z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(-1)

    found = relaxed(start, density, w)
    k = math.acosh(1 + w / n**2 / 2)
    i = torch.arange(n + 1.0).view(1, -1, 1)
    known = (torch.sinh(k * (n - i)) * a.unsqueeze(1) + torch.sinh(k * i) * b.unsqueeze(1)) / math.sinh(k * n)
    assert torch.allclose(found, known, atol=2e-3)
    assert (action(found, density(found), w) < action(start, density(start), w)).all()
    assert torch.equal(relaxed(start, density, 0.0), start)
    other = relaxed(start, density, w * 1.0, rounds=3)
    assert torch.equal(other[:, [0, -1]], start[:, [0, -1]]), "the ends stay"


def test_the_action_does_not_depend_on_the_number_of_steps() -> None:
    """Of the straight line from 0 to b under log p = <g, z>: |b|^2 / 2 - w <g, b> / 2, the sum over n being short of half a step at each end."""
    b, g, w = torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, -2.0]), 0.7
    for n in (10, 1000):
        z = linear(torch.zeros(1, 2), b, torch.linspace(0, 1, n + 1))
        found = action(z, z @ g, w)
        assert float(found) == pytest.approx(12.5 - w * (-5.0) / 2 * (n - 1) / n, rel=1e-4)


def ring() -> MixtureSameFamily:
    """Twelve narrow members on three quarters of a circle: the straight line between its ends leaves it."""
    angle = torch.linspace(0, 1.5 * math.pi, 12)
    return MixtureSameFamily(Categorical(torch.ones(12)), Independent(Normal(3 * torch.stack([angle.cos(), angle.sin()], 1), 0.6), 1))


@pytest.mark.parametrize("weight", [0.3, 3.0, 30.0])
def test_the_least_density_of_a_path_never_falls(weight: float) -> None:
    a, b = torch.tensor([[3.0, 0.0], [0.0, 3.0], [2.0, 2.0]]), torch.tensor([[0.0, -3.0], [-3.0, 0.0], [-2.5, -2.0]])
    straight = linear(a, b, torch.linspace(0, 1, 17))
    density = ring().log_prob
    path = relaxed(straight, density, weight)
    before, after = density(straight).amin(1), density(path).amin(1)
    assert (after >= before).all()
    if weight > 1:
        assert after[2] > before[2] + 4, "the ring is a way around the empty middle; the first path crosses a gap that has none nearby"


def test_a_model_with_a_prior_of_many_modes() -> None:
    model, x = pixels(MixturePrior(4, components=3)), 3 * images(4)
    straight, bent = (editing.interpolate(model, x[:2], x[2:], 9, how, 3.0) for how in ("linear", "density"))
    assert (bent.log_p.amin(1) >= straight.log_p.amin(1)).all() and not torch.allclose(bent.codes, straight.codes)
    assert torch.allclose(bent.images, shown(bent.codes), atol=1e-6)
    assert bent.log_p.sum() > straight.log_p.sum()


def test_the_density_of_a_fitted_prior() -> None:
    """It is p(z) where there is one: in the units of the codes, by the mixture's own formula."""
    model, x = pixels(), 3 * images(4)
    own = editing.interpolate(model, x[:2], x[2:], 5)
    prior = FullMixturePrior(4, components=3)
    model.sampler = Fitted(prior, [4])
    model.sampler.mean += 0.5
    model.sampler.std *= 2.0
    straight, bent = (editing.interpolate(model, x[:2], x[2:], 5, how, 3.0) for how in ("linear", "density"))
    precision = torch.diag_embed(prior.log_diagonals.exp())
    members = MultivariateNormal(prior.means, precision_matrix=precision @ precision.mT)
    oracle = MixtureSameFamily(Categorical(logits=prior.logits), members).log_prob((straight.codes - 0.5) / 2) - 4 * math.log(2)
    assert torch.allclose(straight.log_p, oracle, atol=1e-4) and not torch.allclose(straight.log_p, own.log_p)
    assert (bent.log_p.amin(1) >= straight.log_p.amin(1)).all() and bent.log_p.sum() > straight.log_p.sum() + 0.1
    assert torch.allclose(bent.images, shown(bent.codes), atol=1e-6)


def test_the_density_of_a_fitted_prior_that_is_told_the_class() -> None:
    """Of images with their class p(z|y), in training mode too; of images without one p(z) = sum_y p(y) p(z|y)."""
    model, x = pixels(), 3 * images(2)
    prior = FullMixturePrior(4, 2, classes=3)
    with torch.no_grad():
        weights = torch.eye(3).repeat_interleave(2, 1) * 0.5 + 1e-9  # each class its own two Gaussians
        prior.by_class.copy_(weights.log())
        prior.logits.copy_((torch.tensor([0.5, 0.3, 0.2]) @ weights).log())
    model.sampler = Fitted(prior, [4], condition=OneHotCondition(3)).train()
    told = [Batch(x, condition=torch.tensor([y, y])) for y in range(3)]
    of_classes = [editing.interpolate(model, both[:1], both[1:], 5).log_p for both in told]
    free = editing.interpolate(model, x[:1], x[1:], 5)
    mixed = torch.logsumexp(torch.stack([p + math.log(w) for p, w in zip(of_classes, (0.5, 0.3, 0.2), strict=True)]), 0)
    assert torch.allclose(free.log_p, mixed, atol=1e-4) and not torch.allclose(of_classes[0], of_classes[1])
    bent = editing.interpolate(model, told[0][:1], told[0][1:], 5, "density", 3.0)
    assert bent.log_p.min() >= of_classes[0].min() and not torch.allclose(bent.codes, free.codes)


@pytest.mark.parametrize("grid", [False, True])
def test_a_fitted_prior_without_a_density(grid: bool) -> None:
    """A velocity field has none: no path along it, and no figure of another prior's. Gaussians are no cure for maps."""
    model, x = pixels(), images(2)
    model.sampler = Fitted(FlowMatching(VelocityMLP(4, width=16)), [4, 1, 1] if grid else [4])
    assert editing.interpolate(model, x[:1], x[1:], 5).log_p is None
    with pytest.raises(UserError, match="no density") as error:
        editing.interpolate(model, x[:1], x[1:], 5, "density")
    assert "--prior own" in str(error.value) and ("gmm" in str(error.value)) != grid
    with pytest.raises(UserError, match="no density"):
        model.sampler.log_prob(torch.zeros(1, 4))


def test_conditions_of_an_interpolation() -> None:
    model = pixels()
    model.condition = ClassCondition(3, 4)
    a, b = Batch(images(1), condition=torch.tensor([1])), Batch(images(1), condition=torch.tensor([2]))
    with pytest.raises(UserError, match="told different"):
        editing.interpolate(model, a, b)
    with pytest.raises(UserError, match="told different"):
        editing.arithmetic(model, a, a, b)
    assert editing.interpolate(model, a, a, 3).images.shape == (1, 3, 1, 1, 4)


# ---- attributes


def test_directions_in_closed_form() -> None:
    yes, no = torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    found = editing.direction(yes, no, name="long")
    assert torch.equal(found.vector, torch.tensor([2.0, 1.0])) and found.examples == (2, 2) and found.name == "long"
    with pytest.raises(UserError, match="same mean"):
        editing.direction(yes, yes)
    with pytest.raises(UserError, match="there are 2 and 0"):
        editing.direction(yes, no[:0])
    with pytest.raises(UserError, match="not by 'guess'"):
        editing.direction(yes, no, "guess")


def test_a_logistic_direction_is_that_of_the_discriminant() -> None:
    """Two normals of one covariance C: the logit's gradient is C^-1 d, that of codes in units of s is s C^-1 d, and in raw units s^2 C^-1 d."""
    generator = torch.Generator().manual_seed(0)
    c = torch.tensor([[1.0, 0.9, 0.0], [0.9, 2.0, 0.0], [0.0, 0.0, 1e-20]])
    half = torch.linalg.cholesky(c[:2, :2])
    d = torch.tensor([1.0, -0.5, 0.0])

    def draws(sign: float) -> Tensor:
        z = torch.zeros(5000, 3)
        z[:, :2] = torch.randn(5000, 2, generator=generator) @ half.T
        return z + sign * d / 2

    yes, no = draws(1.0), draws(-1.0)
    found = editing.direction(yes, no, "logistic").vector
    s = torch.cat([yes, no]).std(0)
    normal = torch.zeros(3)
    normal[:2] = torch.linalg.solve(c[:2, :2], d[:2])
    known = s.square() * normal
    assert torch.nn.functional.cosine_similarity(found, known, dim=0) > 0.995 and found[2] == 0, "a dimension that never changes has no say"
    assert float(normal @ found) == pytest.approx(float(normal @ d), rel=0.05), "strength 1 moves the logit as far as the means are apart"


def test_apart_is_orthogonal_to_all_others() -> None:
    a, b, v = (editing.Direction(torch.tensor(x), name) for x, name in (([2.0, 0, 0], "a"), ([1.0, 1.0, 0], "b"), ([3.0, 4.0, 12.0], "v")))
    found = editing.apart(v, [a, b])
    assert torch.allclose(found.vector, torch.tensor([0.0, 0.0, 12.0]), atol=1e-6) and found.left == pytest.approx(12 / 13)
    assert found.cosines == pytest.approx({"a": 3 / 13, "b": 7 / math.sqrt(2) / 13})
    assert editing.apart(v, []) is v
    assert torch.allclose(editing.apart(v, [a, a]).vector, torch.tensor([0.0, 4.0, 12.0])), "the same attribute twice counts once"
    with pytest.raises(UserError, match="nothing is left of 'a'"):
        editing.apart(a, [a, b])


def test_adding_an_attribute_moves_the_image_by_it() -> None:
    model, x = pixels(), images(3)
    v = editing.Direction(torch.tensor([0.0, 1.0, 0.0, -2.0]))
    found = editing.add(model, x, v, [-1.0, 0.0, 2.5])
    expected = shown(code(x)[:, None] + torch.tensor([-1.0, 0.0, 2.5]).view(1, 3, 1) * v.vector)
    assert torch.allclose(found, expected, atol=1e-6) and torch.allclose(found[:, 1], model.reconstruct(x))
    with pytest.raises(UserError, match="another model"):
        editing.add(model, x, editing.Direction(torch.ones(5)), [1.0])
    with pytest.raises(UserError, match="at least one strength"):
        editing.add(model, x, v, [])


def labelled(n: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Four pixels of noise; class 1 has the first one lifted, class 2 the last, class 0 none."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 1, 1, 4)).astype(np.float32) * 0.3
    x[labels == 1, ..., 0] += 3
    x[labels == 2, ..., 3] += 2
    return x, labels


def test_attributes_from_labels_are_found_and_hit() -> None:
    x, labels = labelled()
    data = open_data((torch.from_numpy(x), torch.from_numpy(labels)))
    one, two = data.spec.classes[1:]
    model = pixels()
    found = editing.from_data(model, data, one, data.spec.classes[0])
    expected = torch.tensor([3.0, 0, 0, 0]) * S
    assert torch.allclose(found.direction.vector, expected, atol=0.1) and found.judge.accuracy > 0.98
    kept = editing.from_data(model, data, one, beside=(two,))
    v = editing.direction(*(torch.from_numpy(x[side]).flatten(1) * S for side in (labels == 2, labels != 2))).unit
    assert abs(float(kept.direction.unit @ v)) < 0.05 < abs(kept.direction.cosines[two]) and set(kept.others) == {two}
    batch = found.measured
    assert set(batch.label.tolist()) == {0}
    # The images of a code are its pixels times the scale: what is lifted is the code's first dimension.
    edited = editing.add(model, batch, found.direction, [0.0, 1.0, 8.0])
    reports = [editing.edit_report(model, batch, edited[:, i], wanted=found.judge, others=kept.others, attribute=found.direction) for i in range(3)]
    assert [r["hit"] for r in reports[::2]] == [0.0, 1.0] and reports[0]["hit_before"] == 0.0 and reports[0][f"kept_{two}"] == 1.0
    assert reports[0]["code_along"] == 0 and reports[0]["share_along"] == 1.0
    # Encoding again scales by S once more: along the first dimension alone.
    assert reports[1]["code_along"] == pytest.approx(float(found.direction.vector.norm()) * SCALES[0], rel=0.1)
    with pytest.raises(UserError, match="no class or attribute 'sad'; it has"):
        editing.from_data(model, data, "sad")
    with pytest.raises(UserError, match="must be what it is told from"):
        editing.from_data(model, data, one, one)


def test_figures_of_a_report_by_hand() -> None:
    model, x = pixels(), torch.zeros(2, 1, 1, 4)
    model.latent.posterior.head.weight.data[:4] = torch.eye(4)
    edited = torch.zeros(2, 1, 1, 4)
    edited[..., 0], edited[..., 1] = 3.0, 4.0
    along = editing.Direction(torch.tensor([2.0, 0, 0, 0]))
    inside = torch.tensor([True, True, False, False]).expand(2, 1, 1, 4)
    figures = editing.edit_report(model, x, edited, attribute=along, inside=inside)
    assert figures == {
        "images": 2,
        "code_along": 3.0,
        "code_across": 4.0,
        "share_along": 0.36,
        "change_inside": pytest.approx(math.sqrt(12.5), abs=1e-4),
        "change_outside": 0.0,
        "outside_same": True,
    }
    # What coding alone changes does not count: an edit that shows the reconstruction has changed nothing.
    x = images(2)
    coded = editing.keep_rest(x, pixels().reconstruct(x), inside)
    figures = editing.edit_report(pixels(), x, coded, attribute=along, inside=inside)
    assert figures["code_along"] == figures["code_across"] == 0.0 and figures["change_inside"] > 0.1
    x = torch.zeros(2, 1, 1, 4)
    edited[1, ..., 3] = 1e-3
    assert not editing.edit_report(model, x, edited, inside=inside)["outside_same"]
    assert editing.edit_report(model, x, edited * 0 + 2)["change"] == 2.0


def test_attributes_from_a_few_examples() -> None:
    model, x = pixels(), images(4)
    found = editing.from_examples(model, Batch(x[:2]), Batch(x[2:]))
    assert torch.allclose(found.direction.vector, code(x[:2]).mean(0) - code(x[2:]).mean(0), atol=1e-6)
    assert found.judge is None and found.measured is None, "four images teach no judge"


def test_a_judge_tells_what_it_has_not_seen() -> None:
    x, labels = labelled(400)
    x = torch.from_numpy(x)
    found = editing.judge(x[labels == 1], x[labels == 0])
    assert found.accuracy > 0.98
    assert found(x[labels == 1]).float().mean() > 0.98 > 0.02 > found(x[labels == 0]).float().mean()
    noise = torch.randn(400, 1, 1, 4)
    assert abs(editing.judge(noise[:200], noise[200:]).accuracy - 0.5) < 0.2, "its accuracy is not that on what it learnt from"
    with pytest.raises(UserError, match="at least 8"):
        editing.judge(x[:8], x[:7])


# ---- principal directions


def test_principal_directions_of_a_known_cloud() -> None:
    axes = torch.linalg.qr(torch.randn(4, 4))[0]
    z = 5 + (torch.randn(20_000, 4) * torch.tensor([4.0, 2.0, 1.0, 0.1])) @ axes.T
    found = editing.principal_directions(z, 3)
    assert torch.allclose((found.directions @ axes[:, :3]).abs(), torch.eye(3), atol=0.03)
    assert torch.allclose(found.deviations, torch.tensor([4.0, 2.0, 1.0]), rtol=0.03) and torch.allclose(found.mean, z.mean(0), atol=1e-4)
    assert torch.allclose(found.share, torch.tensor([16.0, 4.0, 1.0]) / 21.01, atol=0.02)
    assert (found.directions.gather(1, found.directions.abs().argmax(1, keepdim=True)) > 0).all()
    with pytest.raises(UserError, match="1 to 4 principal"):
        editing.principal_directions(z, 5)


def test_a_walk_replaces_the_part_along_a_direction() -> None:
    """Where a direction is an axis, it is a traversal of that dimension."""
    model, x = pixels(), images(3)
    axis = editing.Principal(torch.tensor([1.0, 0, 0, 0]), torch.eye(4)[:2], torch.tensor([2.0, 0.5]), torch.tensor([0.9, 0.1]))
    found = editing.walk(model, x, axis, span=1.0, steps=3)
    assert found.shape == (3, 2, 3, 1, 1, 4)
    z = code(x)[:, None, None].repeat(1, 2, 3, 1)
    z[:, 0, :, 0] = torch.tensor([-1.0, 1.0, 3.0])
    z[:, 1, :, 1] = torch.tensor([-0.5, 0.0, 0.5])
    assert torch.allclose(found, shown(z), atol=1e-5)
    with pytest.raises(UserError, match="span above 0"):
        editing.walk(model, x, axis, span=0.0)
