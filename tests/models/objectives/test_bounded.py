"""Cross-entropy of losses in 0..1."""

import pytest
import torch

from models.objectives.bounded import bounded_cross_entropy


def test_the_optimum_is_the_log_of_the_mean_loss() -> None:
    losses = torch.tensor([0.1, 0.2, 0.6])
    raw = torch.zeros((), requires_grad=True)
    value = bounded_cross_entropy((losses.mean().log() + raw).expand(3), losses)
    assert float(torch.autograd.grad(value, raw)[0]) == pytest.approx(0, abs=1e-6)


def test_a_certain_score_costs_finitely_much_where_it_is_wrong() -> None:
    assert torch.isfinite(bounded_cross_entropy(torch.zeros(2), torch.zeros(2)))


@pytest.mark.parametrize(("score", "loss"), [(0.1, 0.5), (-0.1, 1.5)])
def test_more_than_one_is_refused(score: float, loss: float) -> None:
    with pytest.raises(ValueError, match="at most"):
        bounded_cross_entropy(torch.full((2,), score), torch.full((2,), loss))
