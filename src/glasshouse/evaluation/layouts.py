"""Features as points of a plane, and how well the plane keeps what was near together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from threadpoolctl import threadpool_limits

from glasshouse.errors import DataError
from glasshouse.evaluation.data_map import Plane
from glasshouse.rng import derive

# Fewer points have no neighbourhoods; t-SNE needs more of them than PCA.
FEWEST, _FEWEST_TSNE = 3, 10
# Distances of t-SNE are taken among this many components, as van der Maaten and Hinton did.
_COMPONENTS = 50
_PERPLEXITY = 30.0
# Trustworthiness compares all pairs: of more points, memory would be gigabytes.
_COMPARED, _NEIGHBOURS = 2_000, 10


def main_components(features: NDArray[np.floating[Any]], seed: int) -> NDArray[np.float32]:
    """The first principal components of features ``(n, d)``, at most 50, strongest first.

    At least two columns; zeros where there is nothing to tell the rows apart. Raises DataError for
    fewer than 3 rows.
    """
    if len(features) < FEWEST:
        raise DataError(
            f"a map needs {FEWEST} images or more, received {len(features)}: there is nothing to "
            "be near to"
        )
    rows = np.asarray(features, dtype=np.float32)
    found = np.zeros((len(rows), max(2, min(_COMPONENTS, *rows.shape))), dtype=np.float32)
    if np.ptp(rows, axis=0).any():
        count = min(found.shape[1], *rows.shape)
        random = derive(seed, "data map, PCA") % 2**32
        found[:, :count] = PCA(count, random_state=random).fit_transform(rows)
    return found


def tsne_plane(components: NDArray[np.float32], seed: int) -> Plane | None:
    """Points ``(n, 2)`` by t-SNE (van der Maaten 2014), beginning with the first two components.

    In one thread, so that equal seeds give equal points whatever the number of processors. None
    for fewer than 10 rows, or rows that are all alike.
    """
    spread = float(components[:, 0].std())
    if len(components) < _FEWEST_TSNE or spread == 0:
        return None
    tsne = TSNE(
        perplexity=min(_PERPLEXITY, (len(components) - 1) / 3),
        # Small, as the method expects of a start; it decides where the large groups go.
        init=components[:, :2] / spread * 1e-4,
        random_state=derive(seed, "data map, t-SNE") % 2**32,
    )
    with threadpool_limits(1):
        found: Plane = tsne.fit_transform(components).astype(np.float32)
    return found


def kept_neighbours(components: NDArray[np.float32], plane: Plane, seed: int) -> float:
    """How far neighbours in a plane are neighbours among the components: 1 if all are.

    Trustworthiness (Venna and Kaski 2001) of the 10 nearest, or fewer where there are few points;
    of 2,000 points drawn at random where there are more.
    """
    rows = np.arange(len(plane))
    if len(rows) > _COMPARED:
        random = np.random.default_rng(derive(seed, "data map, compared"))
        rows = random.choice(rows, _COMPARED, replace=False)
    near = min(_NEIGHBOURS, (len(rows) - 1) // 2)
    return float(trustworthiness(components[rows], plane[rows], n_neighbors=near))
