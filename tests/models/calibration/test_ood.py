"""The OOD score is a Mahalanobis distance that stays finite, whatever the reference."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.calibration.ood import fit_gaussian


def test_distance_is_mahalanobis() -> None:
    rng = np.random.default_rng(4)
    mixing = rng.normal(size=(5, 5))
    reference = rng.normal(size=(50_000, 5)) @ mixing + 3
    new = rng.normal(size=(7, 5)) * 4
    covariance = np.cov(reference.T)
    offset = new - reference.mean(0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", offset, np.linalg.inv(covariance), offset))
    np.testing.assert_allclose(fit_gaussian(reference).distance(new), expected, rtol=0.05)


def test_distance_does_not_depend_on_the_unit_of_a_dimension() -> None:
    reference = np.random.default_rng(5).normal(size=(30, 4))
    unit = np.array([1, 10, 1e-3, 1e3])
    np.testing.assert_allclose(
        fit_gaussian(reference * unit).distance(reference * unit),
        fit_gaussian(reference).distance(reference),
        rtol=1e-3,
    )


def test_more_dimensions_than_embeddings_stay_finite() -> None:
    rng = np.random.default_rng(6)
    assert np.isfinite(fit_gaussian(rng.normal(size=(10, 64))).distance(rng.normal(size=(100, 64)))).all()


def test_leaving_a_constant_dimension_counts() -> None:
    reference = np.random.default_rng(7).normal(size=(200, 3)) * [1, 1, 0]
    near, far = fit_gaussian(reference).distance(np.array([[0.0, 0, 0], [0.0, 0, 5]]))
    assert np.isfinite(far)
    assert far > near + 5


def test_constant_embeddings_are_a_reference_too() -> None:
    distance = fit_gaussian(np.ones((5, 3))).distance(np.array([[1.0, 1, 1], [2.0, 1, 1]]))
    assert distance[0] == 0
    assert 0 < distance[1] < np.inf


@pytest.mark.parametrize("embeddings", [np.ones((1, 3)), np.ones(3), np.full((3, 2), np.nan)])
def test_gaussian_refuses_unusable_embeddings(embeddings: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="embeddings"):
        fit_gaussian(embeddings)
