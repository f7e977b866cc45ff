import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.calibration.references import (
    canvas_sizes,
    embedding_reference,
    loss_reference,
    order_statistics,
    references,
    signal_reference,
)
from models.contract.manifest import Manifest, parse_manifest
from models.contract.signals import SIGNALS, image_signals, jitter

RNG = np.random.default_rng(0)


def outputs(m: int, **changes: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Outputs like those of `tiny` for m inputs."""
    usual = {name: RNG.normal(size=m).astype(np.float32) for name in ("score", "ood_score")}
    usual["predicted_loss"] = RNG.gamma(2, 1, m).astype(np.float32)
    usual["embedding"] = RNG.normal(size=(m, 4)).astype(np.float32)
    return {**usual, **changes}


def canvases(m: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (m, 8, 8, 1), np.uint8)


def test_all_seven_signals_have_a_reference_that_the_manifest_takes(tiny_version: Manifest) -> None:
    images, sizes = canvases(200), RNG.integers(5, 900, (200, 2))
    found = references(outputs(200), images, sizes).put_into(tiny_version)
    assert parse_manifest(found.to_json()) == found
    assert tuple(found.drift_reference) == SIGNALS
    assert {reference.size for reference in found.drift_reference.values()} == {200}
    luminance, aspect = (found.drift_reference[name] for name in ("luminance", "aspect"))
    computed = image_signals(images, sizes)
    assert luminance.values[0] == pytest.approx(computed[:, 0].min(), abs=2 * luminance.jitter)
    assert aspect.values[-1] == pytest.approx(computed[:, 3].max(), abs=2 * aspect.jitter)


def test_unknown_sizes_are_not_watched() -> None:
    assert tuple(references(outputs(100), canvases(100), None).drift) == SIGNALS[:-2]
    assert canvas_sizes(np.zeros((2, 4, 6, 1), np.uint8)).tolist() == [[6, 4], [6, 4]]


def test_a_reference_is_the_same_each_time_and_in_few_digits() -> None:
    values = RNG.normal(20, 3, 500)
    reference = signal_reference(values, 0)
    assert reference == signal_reference(values, 0)
    assert reference.jitter == pytest.approx(3e-3, rel=0.1)
    assert max(len(str(value)) for value in reference.values) <= 9


@pytest.mark.parametrize("constant", [0.0, 5.0, -1e-4, float(np.log(64)), 1e6])
def test_a_constant_signal_is_spread_by_its_jitter_alone_so_that_ranks_are_uniform(constant: float) -> None:
    reference = signal_reference(np.full(400, constant), 0)
    values, ranks = np.array(reference.values), np.array(reference.ranks)
    new = jitter(np.full(20_000, constant), reference.jitter, np.random.default_rng(7))
    assert ((values >= constant - 1e-9) & (values <= constant + reference.jitter * 1.001)).all()
    shares = np.searchsorted(new, values, sorter=np.argsort(new)) / new.size
    assert np.abs(shares - ranks / 401).max() < 0.08  # Kolmogorov-Smirnov with 400: 1.6 / 20
    assert reference.jitter <= max(abs(constant), 1) / 900


def test_a_discrete_signal_gives_uniform_ranks_too() -> None:
    reference = signal_reference(RNG.integers(0, 3, 400).astype(float), 0)
    new = jitter(RNG.integers(0, 3, 20_000).astype(float), reference.jitter, np.random.default_rng(7))
    shares = np.searchsorted(np.sort(new), reference.values) / new.size
    assert np.abs(shares - np.array(reference.ranks) / 401).max() < 0.08


def test_the_noise_of_float32_is_no_spread() -> None:
    values = np.full(100, 1e4) * (1 + RNG.uniform(-1e-7, 1e-7, 100))
    assert signal_reference(values, 0).jitter == pytest.approx(10)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_have_no_reference(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        signal_reference(np.array([1.0, value, 2.0]), 0)
    with pytest.raises(ValueError, match="finite"):
        loss_reference(np.array([1.0, value]))


def test_predicted_losses_are_kept_as_their_mean_and_spread() -> None:
    found = loss_reference(np.array([1.0, 2.0, 3.0]))
    assert (found.mean_predicted_loss, found.sd, found.n) == (2.0, 0.8164966, 3)


def test_whitened_embeddings_have_mean_zero_and_unit_covariance() -> None:
    mixing = RNG.normal(size=(5, 5))
    embeddings = (RNG.normal(size=(1000, 5)) @ mixing + 100) * [1, 1e3, 1e-2, 1, 1]
    reference = embedding_reference(embeddings)
    assert reference is not None
    whitened = reference.whitening()(embeddings).astype(np.float64)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(5), atol=5e-3)


def test_at_most_32_directions_and_one_for_ten_rows_are_kept() -> None:
    many = embedding_reference(RNG.normal(size=(2000, 64)))
    few = embedding_reference(RNG.normal(size=(99, 64)))
    assert many is not None
    assert few is not None
    assert (len(many.offset), len(few.offset)) == (32, 9)


def test_dimensions_and_directions_that_do_not_vary_are_dropped() -> None:
    free = RNG.normal(size=(500, 2))
    embeddings = np.column_stack([free, free.sum(axis=1), np.full(500, 7.0)])
    reference = embedding_reference(embeddings)
    assert reference is not None
    assert len(reference.offset) == 2
    assert all(row[3] == 0 for row in reference.projection)


def test_rows_with_nan_are_left_out() -> None:
    embeddings = RNG.normal(size=(100, 3))
    embeddings[::2, 1] = np.nan
    reference = embedding_reference(embeddings)
    assert reference is not None
    assert reference.size == 50


@pytest.mark.parametrize(
    "embeddings",
    [
        np.full((400, 4), 3.0),
        np.full((400, 4), np.nan),
        1e4 * (1 + RNG.uniform(-1e-7, 1e-7, (400, 4))),
        np.arange(5.0)[:, None],
    ],
    ids=["constant", "nan", "rounding", "few"],
)
def test_embeddings_without_variation_have_no_reference(embeddings: NDArray[np.float64]) -> None:
    assert embedding_reference(embeddings) is None


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=80), st.integers(1, 40))
def test_order_statistics_are_the_values_at_their_ranks(values: list[int], bins: int) -> None:
    kept = order_statistics(values, bins)  # its own validation refuses ranks or values out of order
    assert kept.size == len(values)
    assert (kept.ranks[0], kept.ranks[-1]) == (1, len(values))
    assert kept.values == tuple(sorted(values)[rank - 1] for rank in kept.ranks)


def test_order_statistics_reach_into_the_tail() -> None:
    ranks = order_statistics(np.arange(400), 20).ranks
    assert {400, 399, 397, 393, 385} <= set(ranks)
    assert max(b - a for a, b in itertools.pairwise(ranks)) <= 20
