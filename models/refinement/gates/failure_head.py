"""The gates on the forecast of losses: it still tells failures apart, and it flags no more than was promised."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.contract.bundle import read_manifest
from models.contract.gate_report import GateResult, Outcome
from models.contract.manifest import Manifest, OperatingPoint
from models.evaluation.metrics import auroc, normalised_aurc
from models.refinement.gates.answers import HOPELESS, finite, not_asked, rounded_up
from models.refinement.gates.attempts import LEVEL
from models.refinement.gates.material import Array, Material, probabilities
from models.refinement.gates.paired import FEWEST_GROUPS, POWER, weighted_mean

MARGIN = 0.02
REDRAWS = 200
FLAG_SHARE = "flag share"

Figure = Callable[[Array, Array], float]  # (scores [n], losses [n])


def failure_head(material: Material) -> tuple[GateResult, GateResult]:
    """AUROC and 1 - nAURC of the candidate's score for its own losses against live, on the test split."""
    level = material.manifest.loss.failure_level
    return (
        _compare(material, "failure head: AUROC", lambda scores, losses: auroc(scores, losses > level)),
        _compare(material, "failure head: 1 - nAURC", lambda scores, losses: 1 - normalised_aurc(scores, losses)),
    )


def _compare(material: Material, gate: str, figure: Figure) -> GateResult:
    live, candidate = (
        (material.column(folder, "test", "score"), material.losses(folder, "test"))
        for folder in (material.inputs.live, material.inputs.candidate)
    )
    source = material.examples("test").source
    estimate = figure(*candidate) - figure(*live)
    if not math.isfinite(estimate):
        return not_asked(
            gate, "The test split has only failures, none, or equal losses: there is nothing to tell apart."
        )
    low, high = difference_interval(figure, live, candidate, source)
    outcome, needed = _outcome(estimate, low, np.unique(source).size)
    name = gate.removeprefix("failure head: ")
    sentence = f"{name} changes by {estimate:+.3f} against live ({low:+.3f} to {high:+.3f}, {source.size} test images)"
    sentence += f": at most {MARGIN:g} lower is asked."
    if needed is not None:
        sentence += f" To tell needs about {needed} more test images."
    return GateResult(
        gate=gate,
        outcome=outcome,
        sentence=sentence,
        limit=-MARGIN,
        labels=source.size,
        alpha=LEVEL,
        needed=needed,
        **finite(estimate=estimate, low=low, high=high),
    )


def difference_interval(
    figure: Figure, live: tuple[Array, Array], candidate: tuple[Array, Array], source: NDArray[np.int64]
) -> tuple[float, float]:
    """Percentile bootstrap of whole sources: each end is missed with `LEVEL`. live, candidate: scores, losses [n]."""
    order = np.argsort(source, kind="stable")
    starts = np.flatnonzero(np.diff(source[order], prepend=source[order][0] - 1))
    members = np.split(order, starts[1:])
    rng = np.random.default_rng(0)
    found = np.empty(REDRAWS)
    for redraw in range(REDRAWS):
        rows = np.concatenate([members[one] for one in rng.integers(0, len(members), len(members))])
        found[redraw] = figure(*(side[rows] for side in candidate)) - figure(*(side[rows] for side in live))
    defined = found[np.isfinite(found)]
    low, high = np.quantile(defined, [LEVEL, 1 - LEVEL]) if defined.size else (np.nan, np.nan)
    return float(low), float(high)


def _outcome(estimate: float, low: float, images: int) -> tuple[Outcome, int | None]:
    if low >= -MARGIN:
        return "passed", None
    if estimate <= -MARGIN:
        return "failed", None
    error = (estimate - low) / float(stats.norm.isf(LEVEL))
    wanted = ((stats.norm.isf(LEVEL) + stats.norm.isf(1 - POWER)) * error / (estimate + MARGIN)) ** 2 * images
    return ("failed", None) if wanted > HOPELESS else ("too_few_labels", max(10, rounded_up(wanted - images)))


def flag_share(material: Material) -> GateResult:
    """Whether the candidate flags more of the judging half of the audit lane than it promises. It needs no label."""
    manifest = read_manifest(material.inputs.candidate)
    promised = _flag_budget(manifest)
    if promised is None:
        return not_asked(FLAG_SHARE, "The candidate promises no flag budget.")
    rows = material.rows(("judge",))
    groups = np.unique([row.group for row in rows], return_inverse=True)[1].astype(np.int64)
    count = np.unique(groups).size
    if count < FEWEST_GROUPS:
        needed = rounded_up((FEWEST_GROUPS - count) * max(1.0, len(rows) / max(count, 1)))
        sentence = f"There are {len(rows)} audit labels of {count} independent groups: about {needed} more are needed."
        return GateResult(gate=FLAG_SHARE, outcome="too_few_labels", sentence=sentence, labels=len(rows), needed=needed)
    folder = material.inputs.candidate
    flags = promised.flags(*(material.column(folder, "judge", name) for name in ("score", "ood_score")))
    flagged = np.logical_or.reduce(list(flags.values())).astype(np.float64)
    weights = 1 / probabilities(rows)
    share, rest = (weighted_mean(column, weights, groups) for column in (flagged, 1 - flagged))
    low, high = 1 - rest.upper(LEVEL), share.upper(LEVEL)
    passed = low <= promised.level
    sentence = f"The candidate flags {100 * share.value:.1f} % of traffic ({100 * low:.1f} to {100 * high:.1f} %, "
    sentence += f"{len(rows)} audit images), and promises at most {100 * promised.level:.0f} %."
    return GateResult(
        gate=FLAG_SHARE,
        outcome="passed" if passed else "failed",
        sentence=sentence,
        limit=promised.level,
        labels=len(rows),
        alpha=LEVEL,
        **finite(estimate=share.value, low=low, high=high),
    )


def _flag_budget(manifest: Manifest) -> OperatingPoint | None:
    """The default point if it is a flag budget, else the first that is."""
    points = [manifest.operating_points[manifest.default_operating_point], *manifest.operating_points.values()]
    return next((point for point in points if point.kind == "flag_budget"), None)
