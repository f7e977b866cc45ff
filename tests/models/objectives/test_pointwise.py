"""Regression of the log loss, the Gamma likelihood and the cross-entropy: gradients, optima and limits."""

import math

import pytest
import torch
from torch import Tensor

from models.objectives.pointwise import bounded_cross_entropy, gamma_likelihood, log_loss_regression


def gradient(value: Tensor, scores: Tensor) -> Tensor:
    (one,) = torch.autograd.grad(value, scores)
    return one


def batch() -> tuple[Tensor, Tensor]:
    """Scores and losses with a zero, [n]."""
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(9, generator=generator).double() * 3
    losses[2] = 0
    return torch.randn(9, generator=generator).double().requires_grad_(), losses


def test_the_gradient_of_log_regression_is_twice_the_residual() -> None:
    scores, losses = batch()
    expected = 2 * (scores.detach() - torch.log(losses + 0.01)) / len(losses)
    torch.testing.assert_close(gradient(log_loss_regression(scores, losses), scores), expected)


def test_the_gradient_of_the_gamma_likelihood_is_one_less_the_ratio() -> None:
    scores, losses = batch()
    expected = (1 - losses * torch.exp(-scores.detach())) / len(losses)
    torch.testing.assert_close(gradient(gamma_likelihood(scores, losses), scores), expected)


def test_one_score_for_all_is_best_at_the_log_of_the_mean_and_at_the_mean_of_the_logs() -> None:
    _, losses = batch()
    for objective, best in (
        (gamma_likelihood, losses.mean().log()),
        (log_loss_regression, torch.log(losses + 0.01).mean()),
    ):
        shared = best.clone().requires_grad_()
        assert abs(gradient(objective(shared.expand(len(losses)), losses), shared).item()) < 1e-12


def test_beyond_its_range_the_gamma_likelihood_goes_on_without_a_step() -> None:
    losses = torch.ones(2).double()
    inside, outside = (
        gradient(gamma_likelihood(scores, losses), scores)
        for scores in (torch.full((2,), -10 + side, dtype=torch.float64, requires_grad=True) for side in (1e-9, -1e-9))
    )
    torch.testing.assert_close(inside, outside, rtol=1e-6, atol=0)


@pytest.mark.parametrize("floor", [0.0, -1.0, math.nan])
def test_a_floor_that_is_not_positive_is_refused(floor: float) -> None:
    with pytest.raises(ValueError, match="floor"):
        log_loss_regression(torch.ones(2), torch.ones(2), floor)


def test_cross_entropy_is_best_at_the_log_of_the_mean_loss() -> None:
    losses = torch.tensor([0.1, 0.2, 0.6])
    raw = torch.zeros((), requires_grad=True)
    value = bounded_cross_entropy((losses.mean().log() + raw).expand(3), losses)
    assert float(torch.autograd.grad(value, raw)[0]) == pytest.approx(0, abs=1e-6)


def test_a_certain_score_that_is_wrong_costs_a_finite_cross_entropy() -> None:
    assert torch.isfinite(bounded_cross_entropy(torch.zeros(2), torch.zeros(2)))


@pytest.mark.parametrize(("score", "loss"), [(0.1, 0.5), (-0.1, 1.5)])
def test_cross_entropy_refuses_losses_and_predicted_losses_above_one(score: float, loss: float) -> None:
    with pytest.raises(ValueError, match="at most"):
        bounded_cross_entropy(torch.full((2,), score), torch.full((2,), loss))
