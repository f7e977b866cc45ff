import math

import pytest
import torch
from torch import Tensor

from models.objectives.learning_loss import (
    OBJECTIVES,
    Objective,
    ObjectiveFunction,
    learning_loss,
    learning_loss_gradient,
    learning_loss_pp,
    learning_loss_pp_gradient,
    learning_loss_pp_weighted,
    listwise,
)

ALL = sorted(OBJECTIVES)


def linear_head() -> tuple[Tensor, Tensor, Tensor]:
    """Weight [d], features [n, d], losses [n] with a tie and a zero."""
    generator, n, d = torch.Generator().manual_seed(0), 12, 5
    weight, features = torch.randn(d, generator=generator), torch.randn(n, d, generator=generator)
    losses = torch.rand(n, generator=generator) * 10
    losses[3], losses[4] = losses[5], 0.0
    return weight.double(), features.double(), losses.double()


def autograd(objective: str, weight: Tensor, features: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    weight, features = weight.clone().requires_grad_(), features.clone().requires_grad_()
    function = {"learning_loss": learning_loss, "learning_loss_pp": learning_loss_pp}[objective]
    of_weight, of_features = torch.autograd.grad(function(features @ weight, losses), (weight, features))
    return of_weight, of_features


def test_learning_loss_is_the_hinge_on_every_pair() -> None:
    scores, losses = torch.tensor([2.0, 0.5, 1.0]), torch.tensor([3.0, 1.0, 2.0])
    # pairs (0,1): gap 1.5 in order, costs 0; (0,2): gap 1, costs 0; (1,2): gap -0.5 in reverse order of losses -1
    assert learning_loss(scores, losses, margin=1.0).item() == pytest.approx((0 + 0 + 0.5) / 3)


def test_learning_loss_costs_nothing_for_tied_losses() -> None:
    assert learning_loss(torch.tensor([5.0, -5.0]), torch.tensor([2.0, 2.0])).item() == 0


def test_learning_loss_pp_is_the_divergence_written_out() -> None:
    scores, losses = torch.tensor([0.3, -1.0]), torch.tensor([1.0, 3.0])
    p, q = 0.25, 1 / (1 + math.exp(-1.3))
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert learning_loss_pp(scores, losses).item() == pytest.approx(expected, rel=1e-5)


def test_learning_loss_pp_vanishes_exactly_at_the_log_losses() -> None:
    losses = torch.tensor([0.1, 1.0, 7.0, 30.0])
    assert learning_loss_pp(losses.log() + 4, losses).item() == pytest.approx(0, abs=1e-6)
    assert learning_loss_pp(2 * losses.log(), losses).item() > 0.01


def test_two_zero_losses_need_equal_scores() -> None:
    zeros = torch.zeros(2)
    assert learning_loss_pp(torch.tensor([1.0, 1.0]), zeros).item() == pytest.approx(0, abs=1e-7)
    assert learning_loss_pp(torch.tensor([1.0, 3.0]), zeros).item() > 0.1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e-20, 1.0, 1e20, 1e38])
def test_extreme_losses_and_scores_keep_value_and_gradient_finite(name: Objective, scale: float) -> None:
    losses = torch.tensor([0.0, 1.0, 2.0, 3.0, 2.0]) * scale
    scores = torch.tensor([-1e4, 0.0, 1e-30, 1e4, -1e4], requires_grad=True)
    value = OBJECTIVES[name](scores, losses)
    (gradient,) = torch.autograd.grad(value, scores)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_pairs_depend_on_the_ratio_of_losses_only() -> None:
    scores, losses = torch.tensor([0.1, 0.4, -2.0]), torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(learning_loss_pp(scores, losses), learning_loss_pp(scores, losses * 1e30))


@pytest.mark.parametrize("objective", ["learning_loss", "learning_loss_pp"])
def test_closed_form_gradient_of_a_linear_head_equals_autograd(objective: str) -> None:
    weight, features, losses = linear_head()
    closed = {"learning_loss": learning_loss_gradient, "learning_loss_pp": learning_loss_pp_gradient}[objective]
    for ours, theirs in zip(
        closed(weight, features, losses), autograd(objective, weight, features, losses), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_learning_loss_pp_gradient_of_one_pair_is_the_formula_of_the_paper() -> None:
    weight, features, losses = linear_head()
    features, losses = features[:2], losses[:2]
    p = losses[0] / losses.sum()
    q = torch.softmax(features @ weight, dim=0)[0]
    gradient = learning_loss_pp_gradient(weight, features, losses)
    torch.testing.assert_close(gradient.weight, (q - p) * (features[0] - features[1]))
    torch.testing.assert_close(gradient.features[0], (q - p) * weight)
    torch.testing.assert_close(gradient.features[1], -(q - p) * weight)


@pytest.mark.parametrize("function", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize(
    ("scores", "losses", "message"),
    [
        ([1.0, 2.0], [1.0, math.nan], "finite"),
        ([1.0, 2.0], [1.0, math.inf], "finite"),
        ([1.0, 2.0], [1.0, -0.1], "not negative"),
        ([1.0, math.nan], [1.0, 2.0], "NaN"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], r"\[n\]"),
        ([[1.0, 2.0]], [[1.0, 2.0]], r"\[n\]"),
        ([1.0], [1.0], "two examples"),
    ],
)
def test_unusable_scores_and_losses_are_refused_by_name(
    function: ObjectiveFunction, scores: list[float], losses: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        function(torch.tensor(scores), torch.tensor(losses))


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan])
def test_a_margin_that_is_not_positive_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        learning_loss(torch.ones(2), torch.ones(2), margin)


def score_gradient(name: Objective, scores: Tensor, losses: Tensor, **options: float) -> Tensor:
    leaf = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(OBJECTIVES[name](leaf, losses, **options), leaf)
    return gradient


def test_the_gradient_of_the_weighted_form_is_its_share_of_all_pairs_mass() -> None:
    weight, features, losses = linear_head()
    scores, n = features @ weight, len(losses)
    expected = torch.zeros(n).double()
    for i in range(n):
        for j in range(n):
            total = losses[i] + losses[j]
            expected[i] += total * torch.sigmoid(scores[i] - scores[j]) - losses[i] if i != j else 0
    gradient = score_gradient("learning_loss_pp_weighted", scores, losses)
    torch.testing.assert_close(gradient, expected / ((n - 1) * losses.sum()), rtol=1e-9, atol=1e-12)
    fixed = score_gradient("learning_loss_pp_weighted", scores, losses, mean_loss=2.0)
    torch.testing.assert_close(fixed, expected / ((n - 1) * n * 2.0), rtol=1e-9, atol=1e-12)


def test_the_gradient_of_the_listwise_form_is_softmax_less_the_share_of_the_loss() -> None:
    weight, features, losses = linear_head()
    scores = features @ weight
    expected = torch.softmax(scores, dim=0) - losses / losses.sum()
    torch.testing.assert_close(score_gradient("listwise", scores, losses), expected, rtol=1e-9, atol=1e-12)
    fixed = score_gradient("listwise", scores, losses, mean_loss=2.0)
    torch.testing.assert_close(fixed, expected * losses.mean() / 2.0, rtol=1e-9, atol=1e-12)


def test_with_two_examples_the_listwise_form_is_learning_loss_pp() -> None:
    scores, losses = torch.tensor([0.3, -1.0]), torch.tensor([1.0, 3.0])
    torch.testing.assert_close(
        score_gradient("listwise", scores, losses), score_gradient("learning_loss_pp", scores, losses)
    )
    torch.testing.assert_close(learning_loss_pp_weighted(scores, losses), learning_loss_pp(scores, losses))


@pytest.mark.parametrize("name", ["learning_loss_pp", "learning_loss_pp_weighted", "listwise"])
def test_the_log_losses_are_an_optimum_up_to_a_constant(name: Objective) -> None:
    losses = torch.tensor([0.1, 1.0, 7.0, 30.0]).double()
    assert score_gradient(name, losses.log() + 4, losses).abs().max() < 1e-12
    assert score_gradient(name, 2 * losses.log(), losses).abs().max() > 0.01


@pytest.mark.parametrize("name", ["learning_loss_pp_weighted", "listwise"])
def test_a_loss_of_zero_draws_its_score_down_and_two_of_them_have_no_weight(name: Objective) -> None:
    scores, losses = torch.tensor([0.0, 2.0, 1.0]), torch.tensor([0.0, 0.0, 3.0])
    gradient = score_gradient(name, scores, losses)
    assert (gradient[:2] > 0).all()
    assert gradient[2] < 0
    assert score_gradient(name, scores, torch.zeros(3)).abs().max() == 0


@pytest.mark.parametrize("function", [learning_loss_pp_weighted, listwise])
@pytest.mark.parametrize("mean_loss", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_mean_loss_is_refused(function: ObjectiveFunction, mean_loss: float) -> None:
    with pytest.raises(ValueError, match="mean_loss"):
        function(torch.ones(2), torch.ones(2), mean_loss=mean_loss)  # type: ignore[call-arg]  # both take it


@pytest.mark.parametrize("name", ["learning_loss_pp_weighted", "listwise"])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_with_a_fixed_divisor_the_optimum_is_the_log_of_the_mean_for_any_batch(name: Objective, size: int) -> None:
    """Exact expectation: every loss is 0 or m / p with probability p, so that its mean is m and its law varies."""
    generator = torch.Generator().manual_seed(size)
    means = 0.5 + torch.rand(size, generator=generator).double()
    chances = 0.2 + 0.8 * torch.rand(size, generator=generator).double()
    fixed, own = torch.zeros(size).double(), torch.zeros(size).double()
    for case in range(2**size):
        hit = torch.tensor([bool(case >> i & 1) for i in range(size)])
        probability = torch.where(hit, chances, 1 - chances).prod()
        losses = torch.where(hit, means / chances, 0.0)
        fixed += probability * score_gradient(name, means.log(), losses, mean_loss=1.0)
        own += probability * score_gradient(name, means.log(), losses)
    assert fixed.abs().max() < 1e-12
    assert own.abs().max() > 1e-3  # the batch's own divisor favours losses that vary little
