"""Parts of traffic, and the forecast of losses."""

import numpy as np

from models.refinement.gates.failure_head import difference_interval
from models.refinement.gates.paired import Pairs
from models.refinement.gates.slices import judge_slices


def _slice(factor: float, seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    live = rng.gamma(2.0, 2.0, 100)
    return Pairs.of(live, live * factor * np.exp(0.1 * rng.standard_normal(100)))


def test_a_slice_that_became_worse_is_named() -> None:
    answer = judge_slices({"door": _slice(0.9, 0), "yard": _slice(1.2, 1), "gate": _slice(1.0, 2)})
    assert answer.outcome == "failed"
    assert "yard" in answer.sentence


def test_slices_at_the_margin_seldom_alarm() -> None:
    rounds = [{str(part): _slice(1.0, 10 * seed + part) for part in range(6)} for seed in range(20)]
    assert sum(judge_slices(one).outcome == "failed" for one in rounds) <= 3


def test_without_slices_nothing_is_asked() -> None:
    assert judge_slices({}).outcome == "not_asked"


def test_the_interval_of_a_difference_redraws_whole_sources() -> None:
    rng = np.random.default_rng(0)
    losses = rng.gamma(2.0, 2.0, 200)
    live, candidate = (rng.normal(losses, 1), losses), (rng.normal(losses, 3), losses)

    def figure(scores: np.ndarray, of: np.ndarray) -> float:
        return float(np.corrcoef(scores, of)[0, 1])

    low, high = difference_interval(figure, live, candidate, np.arange(200))
    assert low < figure(*candidate) - figure(*live) < high < 0
