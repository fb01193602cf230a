"""Maps of the codes in two dimensions: principal components, t-SNE, and UMAP where it is installed."""

import warnings

import numpy as np
from jaxtyping import Float

from vaekit.data.spec import DataSpec
from vaekit.report import charts
from vaekit.report.content import Block, Chart, Charts, Prose, Section
from vaekit.report.measure import Measured

COMPONENTS = 50
"""Principal components that the maps of neighbours start from, where the codes have more dimensions."""
FEWEST = 12
"""Images below which there are no neighbours to speak of."""


def principal(codes: Float[np.ndarray, "n D"], count: int) -> tuple[Float[np.ndarray, "n P"], Float[np.ndarray, "P"]]:
    """The first P <= `count` principal components of n points, and the share of the variance in each.

    Raises nothing for points that are all equal: their components are zeros with the share 0.
    """
    from sklearn.decomposition import PCA

    fitted = PCA(min(count, *codes.shape), random_state=0)
    with warnings.catch_warnings():
        # Points that do not vary have no share.
        warnings.simplefilter("ignore", RuntimeWarning)
        points = fitted.fit_transform(codes.astype(np.float64))
    return points, np.nan_to_num(fitted.explained_variance_ratio_)


def neighbours(points: Float[np.ndarray, "n P"]) -> Float[np.ndarray, "n 2"]:
    """t-SNE of n points, deterministic.

    References: Visualizing Data using t-SNE (van der Maaten, Hinton, 2008), https://www.jmlr.org/papers/v9/vandermaaten08a.html
    """
    from sklearn.manifold import TSNE

    return TSNE(2, perplexity=min(30.0, (len(points) - 1) / 3), init="random", random_state=0, n_jobs=1).fit_transform(points).astype(np.float64)


def plane(measured: Measured, spec: DataSpec, *, most: int = 2000) -> Section:
    """The codes of the first `most` validation images, coloured by class where there are classes."""
    codes = measured.codes[:most]
    labels = None if measured.labels is None or not spec.classes else measured.labels[:most]
    if not np.isfinite(codes).all() or len(codes) < 2:
        return Section("Map of the codes", (Prose("There are too few images, or codes that are not finite: there is no map."),))
    points, shares = principal(codes, COMPONENTS)
    flat = np.zeros((len(points), 2))
    flat[:, : points.shape[1]] = points[:, :2]
    made: list[Chart] = [
        charts.scatter("Principal components", flat, labels, spec.classes, f"They hold {100 * float(shares[:2].sum()):.0f} % of the variance.")
    ]
    blocks: list[Block] = []
    if len(points) >= FEWEST and float(points.std()) > 0:
        made.append(charts.scatter("t-SNE", neighbours(points), labels, spec.classes, "Who is near whom; distances between groups mean little."))
        try:
            from umap import UMAP
        except ImportError:
            blocks.append(Prose("With `pip install umap-learn`, a UMAP stands here as well."))
        else:
            embedded = np.asarray(UMAP(random_state=0, n_jobs=1).fit_transform(points), np.float64)
            made.append(charts.scatter("UMAP", embedded, labels, spec.classes, "Who is near whom, with more of the groups' arrangement."))
    coloured = "coloured by class" if labels is not None else "not coloured, since these images have no classes"
    first = Prose(
        f"The mean codes of {len(codes):,} validation images, {coloured}. Groups that show without being asked for are what the model found."
    )
    return Section("Map of the codes", (first, Charts(tuple(made)), *blocks))
