"""Finds labels whose left and right are exchanged, by what the live version sees: arrays in, figures out.

A label looks swapped when the live prediction is nearer to the label with left and right exchanged. Honest labels look
swapped too where the model confuses sides. How often it does is known from labels that are trusted, for each level of
predicted loss and of the evidence: how clearly one reading is nearer than the other. With r_i for that rate, the label
of an annotator who exchanges a share s of them looks swapped with probability r_i + s (1 - 2 r_i). s is estimated by
maximum likelihood, with bounds from its likelihood ratio.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.refinement.gates.paired import Change

Array = NDArray[np.float64]

LEVELS = 5  # of predicted loss, and within each of evidence, of equal numbers of trusted labels
STEPS = 1001  # shares that are tried
SMALLEST = 1e-6  # of an error, in canvas pixels


def side_evidence(preds: NDArray[np.floating], labels: NDArray[np.floating], order: Sequence[int]) -> Array:
    """preds, labels: [n, k, 2], NaN where not annotated; order: see `mirror_order` -> [n].

    The logarithm of the error under the exchanged label over that under the label: below 0 it looks swapped. NaN where
    no sided point is annotated.
    """
    turned = np.asarray(order)
    sided = np.flatnonzero(turned != np.arange(turned.size))
    errors = [_error(preds[:, sided], labels[:, names]) for names in (sided, turned[sided])]
    return np.asarray(np.log(np.maximum(errors[1], SMALLEST)) - np.log(np.maximum(errors[0], SMALLEST)), np.float64)


def usual_rates(trusted: Array, trusted_losses: Array, evidence: Array, losses: Array) -> Array:
    """How often honest labels look swapped. trusted, evidence: [m] and [n] of `side_evidence`, without NaN.

    trusted_losses, losses: [m], [n] predicted losses. Returns a rate for each of the n labels, between 0 and 1/2.
    """
    rates = np.zeros(evidence.size)
    for of_trusted, mine in zip(*_levels(trusted_losses, losses), strict=True):
        known, wanted = trusted[of_trusted], evidence[mine]
        for there, here in zip(*_levels(np.abs(known), np.abs(wanted)), strict=True):
            found, labels = int((known[there] < 0).sum()), int(there.sum())
            # A rate is never 0, because one surprise proves nothing, and never 1/2, where labels would say nothing.
            rates[np.flatnonzero(mine)[here]] = min((found + 0.5) / (labels + 1), 0.49)
    return rates


def swapped_share(evidence: Array, rates: Array, alpha: float) -> Change:
    """evidence, rates: [n], without NaN -> the share of labels that are exchanged, each bound missed with alpha."""
    shares = np.linspace(0, 1, STEPS)
    likelihood = np.zeros(STEPS)
    for rate in np.unique(rates):
        of_rate = evidence[rates == rate]
        seen = int((of_rate < 0).sum())
        probability = rate + shares * (1 - 2 * rate)
        likelihood += seen * np.log(probability) + (of_rate.size - seen) * np.log1p(-probability)
    likely = shares[likelihood >= likelihood.max() - float(stats.norm.isf(alpha)) ** 2 / 2]
    return Change(float(shares[likelihood.argmax()]), float(likely[0]), float(likely[-1]))


def _levels(trusted: Array, others: Array) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
    """Both sides cut at the quantiles of the trusted side; a side that is empty stays whole."""
    edges = np.quantile(trusted, np.arange(1, LEVELS) / LEVELS) if trusted.size else np.zeros(0)
    sides = [np.searchsorted(edges, side) for side in (trusted, others)]
    one, other = ([side == level for level in range(edges.size + 1)] for side in sides)
    return one, other


def _error(preds: NDArray[np.floating], labels: NDArray[np.floating]) -> Array:
    distances = np.linalg.norm(np.asarray(preds, np.float64) - labels, axis=-1)
    there = np.isfinite(distances)
    sums, counts = np.where(there, distances, 0).sum(axis=1), there.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
