"""Pairs of losses under a Gamma law: how often two are alike, and the effect on the objectives.

The model of Shukla & Ahmed, "A Mathematical Analysis of Learning Loss for Active Learning in Regression"
(CVPR Workshops 2021): true losses are independent Gamma(k, theta) variables, k the shape, theta the
scale in the unit of the loss. Everything is a function of delta / theta, in closed form for whole k and
by quadrature for any k > 0. Arrays in, arrays out; no state.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.integrate import tanhsinh

Array = NDArray[np.float64]

CLOSED_FORM_MAX_K = 64  # beyond it a sum of k terms costs more than the quadrature
SERIES_MAX_Z = 50.0  # up to here exp(z) and E_n(z) are far from overflow and underflow
FRACTION_TERMS = 60  # enough for the continued fraction to converge to the last bit
LARGEST_LOG = 700.0  # exp of a larger number overflows
LARGEST_X = 1e307
NARROWEST = 1e-9  # piece of an integral over log y; what is in it is lost, and is far below the last digit that counts


def similar_loss_probability(delta: ArrayLike, k: float, theta: float) -> Array:
    """P(|X - Y| <= delta) for independent Gamma(k, theta) losses X and Y, in the shape of delta (Table 1 of the paper).

    delta >= 0 (inf is allowed) and theta in the unit of the loss. Raises ValueError on NaN or negative
    delta, and on k or theta that are not positive and finite.
    """
    separation = _separations(delta, k, theta)
    if (separation < 0).any():
        raise ValueError("delta must not be negative: it is the largest distance of two losses")
    probability = _similar_closed(separation, int(k)) if _has_closed_form(k) else _similar_quadrature(separation, k)
    return np.clip(probability, 0, 1)


def expected_pair_target(delta: ArrayLike, k: float, theta: float) -> Array:
    """E[p_i | l_i - l_j = delta] with p_i = l_i / (l_i + l_j) for independent Gamma(k, theta) losses, in delta's shape.

    delta has a sign: below zero i is the better one of the pair and its expected share lies under 1/2
    (Table 2 of the paper), E[p_i | -delta] = 1 - E[p_i | delta]. LearningLoss++ asks q_i to be this.
    At delta = 0 it is 1/2, and for k < 1/2 it jumps there: such losses are alike only when both are
    tiny, and then one is still many times the other. Raises ValueError on NaN delta, and on k or theta that are
    not positive and finite.
    """
    separation = _separations(delta, k, theta)
    distance = np.abs(separation)
    lower = _lower_share_closed(distance, int(k)) if _has_closed_form(k) else _lower_share_quadrature(distance, k)
    lower = np.clip(lower, 0, 0.5)
    return np.where(separation > 0, 1 - lower, lower)


def expected_learning_loss_gradient(delta: ArrayLike, score_gap: ArrayLike, margin: float = 1.0) -> Array:
    """Derivative of Learning Loss by s_i - s_j for a pair of losses l_i - l_j = delta, in their joint shape.

    -sign(delta) inside the margin, sign(delta) * score_gap < margin, and 0 outside. It is the same for two
    losses that are nearly equal as for two that are far apart, for every law of the losses. For a linear
    head s = w . theta it multiplies theta_i - theta_j in the gradient by w, and w in that by theta_i.
    Raises ValueError on NaN, or on a margin that is not positive.
    """
    gap, order = _not_nan(score_gap, "score_gap"), np.sign(_not_nan(delta, "delta"))
    if not margin > 0:
        raise ValueError(f"margin must be positive, not {margin}")
    return np.where(order * gap < margin, -order, 0.0)


def expected_learning_loss_pp_gradient(delta: ArrayLike, score_gap: ArrayLike, k: float, theta: float) -> Array:
    """E[dL/d(s_i - s_j) | l_i - l_j = delta] of LearningLoss++, q_i - E[p_i | delta], in the joint shape of the two.

    q_i = sigmoid(score_gap). It shrinks with delta and vanishes where the scores agree with the losses;
    for a linear head it multiplies the same factors as that of Learning Loss. Raises ValueError on NaN, and as
    `expected_pair_target` does.
    """
    return special.expit(_not_nan(score_gap, "score_gap")) - expected_pair_target(delta, k, theta)


def _similar_closed(x: Array, k: int) -> Array:
    """2 sum_{j<k} C(k-1+j, j) 2^-(k+j) P(k-j, x): X - Y is a two-sided mixture of whole-shape Gamma laws."""
    j = np.arange(k)
    log_weight = special.gammaln(k + j) - special.gammaln(k) - special.gammaln(j + 1) - (k + j - 1) * np.log(2)
    return np.asarray(special.gammainc(k - j, x[..., None]) @ np.exp(log_weight))


def _similar_quadrature(x: Array, k: float) -> Array:
    """X - Y is normal with variance 2 G, G of Gamma(k, 1): E[erf(x / (2 sqrt(G)))], over the quantiles of G."""

    def given_quantile(p: Array, x: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = x / (2 * np.sqrt(special.gammaincinv(k, p)))
        return special.erf(np.where(x == 0, 0.0, np.where(np.isnan(ratio), np.inf, ratio)))

    return _integrate(given_quantile, np.zeros_like(x), np.ones_like(x), x)


def _lower_share_closed(x: Array, k: int) -> Array:
    """Ratio of sums over (y + x)^(k-1), expanded: E[y / (2 y + x)] for y of density ~ (y (y + x))^(k-1) exp(-2 y).

    Every power of y is a Gamma integral below the line and e^x E_n(x) above it; no term is negative.
    """
    j = np.arange(k)
    finite = np.minimum(x, np.finfo(np.float64).max)[..., None]
    log_binomial = -special.gammaln(j + 1) - special.gammaln(k - j)
    log_weight = log_binomial + special.gammaln(k + j) - j * np.log(2) + special.xlogy(k - 1 - j, finite)
    weight = special.softmax(log_weight, axis=-1)
    share = (weight * (k + j) / 2 * _scaled_exponential_integral(k + j + 1, finite)).sum(-1)
    return np.where(x == 0, 0.5, share)  # exact here; the sums are wrong in the last bits


def _scaled_exponential_integral(n: NDArray[np.int64], z: Array) -> Array:
    """e^z E_n(z) for whole n >= 2 and z >= 0, never overflowing (DLMF 8.19.17 beyond `SERIES_MAX_Z`)."""
    small = np.minimum(z, SERIES_MAX_Z)
    large = np.maximum(z, SERIES_MAX_Z)
    fraction = np.asarray(large + n + 2 * FRACTION_TERMS, np.float64)
    for i in range(FRACTION_TERMS, 0, -1):
        fraction = large + n + 2 * (i - 1) - i * (n + i - 1) / fraction
    return np.where(z <= SERIES_MAX_Z, np.exp(small) * special.expn(n, small), 1 / fraction)


def _lower_share_quadrature(x: Array, k: float) -> Array:
    """E[y / (2 y + x)] as in `_lower_share_closed`, integrated over log y, piece by piece."""
    bound = LARGEST_X * min(k, 1.0)  # beyond it the share is below k / bound, and x / k would overflow
    positive = np.where(x > 0, np.minimum(x, bound), 1.0)
    mode = _log_mode(positive, k)
    peak = _log_density(mode, positive, k)
    inner = np.sort(np.stack([mode, np.log(positive), np.zeros_like(positive)]), axis=0)
    for later, earlier in ((1, 0), (2, 1)):  # a piece that is some floats wide has no points inside: it gives NaN
        inner[later] = np.where(inner[later] - inner[earlier] < NARROWEST, inner[earlier], inner[later])
    edges = np.concatenate([np.full_like(inner[:1], -np.inf), inner, np.full_like(inner[:1], np.inf)])

    def density(u: Array, x: Array, peak: Array) -> Array:
        return np.exp(_log_density(u, x, k) - peak)

    def share(u: Array, x: Array, peak: Array) -> Array:
        # Times 1 + x / k, so that a tiny share is as precise as a large one.
        lower = special.expit(u - np.log(x + np.exp(np.minimum(u, LARGEST_LOG))))
        return density(u, x, peak) * lower * (1 + x / k)

    arguments = np.broadcast_arrays(edges[:-1], edges[1:], positive, peak)
    mass = _integrate(density, *arguments).sum(0)
    found = _integrate(share, *arguments).sum(0) / mass / (1 + positive / k)
    return np.where(x == 0, 0.5, np.where(np.isinf(x), 0.0, found))


def _log_density(u: Array, x: Array, k: float) -> Array:
    """The log density of u = log y, up to a constant: k u + (k - 1) log(y + x) - 2 y."""
    bounded: Array = np.minimum(u, LARGEST_LOG)
    y: Array = np.exp(bounded)
    log_other: Array = np.log(y + x)
    return k * bounded + (k - 1) * log_other - 2 * y


def _log_mode(x: Array, k: float) -> Array:
    """Where `_log_density` peaks: the positive root of 2 y^2 + (2 x - 2 k + 1) y - k x."""
    half = (2 * k - 1 - 2 * x) / 4
    with np.errstate(over="ignore"):
        root = np.hypot(half, np.sqrt(k / 2) * np.sqrt(x))
    # A sum of two numbers of one sign, and the other root from the product of both roots, so that nothing cancels.
    outer: Array = np.log(np.abs(half) + root)
    return np.where(half > 0, outer, np.log(k / 2) + np.log(x) - outer)


def _integrate(function: Callable[..., Array], low: Array, high: Array, *arguments: Array) -> Array:
    """Tanh-sinh quadrature (Takahasi & Mori 1974) element by element; singular ends are allowed."""
    with np.errstate(all="ignore"):  # densities underflow to 0 at the far ends, as they should
        found = tanhsinh(function, low, high, args=arguments, minlevel=5, maxlevel=12, atol=1e-13, rtol=1e-12)
    return np.asarray(found.integral, np.float64)


def _separations(delta: ArrayLike, k: float, theta: float) -> Array:
    """Separations in units of the scale, once both are checked."""
    _check_law(k, theta)
    with np.errstate(over="ignore"):
        return _not_nan(delta, "delta") / theta


def _check_law(k: float, theta: float) -> None:
    for name, value in (("k", k), ("theta", theta)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, not {value}")


def _not_nan(values: ArrayLike, name: str) -> Array:
    array = np.asarray(values, np.float64)
    if np.isnan(array).any():
        raise ValueError(f"{name} holds NaN")
    return array


def _has_closed_form(k: float) -> bool:
    return k <= CLOSED_FORM_MAX_K and float(k).is_integer()
