"""The error budget of attempts, the choice of labels, and Holm's procedure."""

import math

import pytest

from models.refinement.gates.attempts import LEVEL, MOST_ATTEMPTS, alpha_of, choose_attempt, holm, looks_of


def test_the_alphas_of_all_attempts_add_up_to_five_percent() -> None:
    assert alpha_of(1) == pytest.approx(0.05 * 6 / math.pi**2)
    assert alpha_of(3) == pytest.approx(alpha_of(1) / 9)
    assert sum(map(alpha_of, range(1, 10_000))) < LEVEL


def test_attempts_count_from_one() -> None:
    with pytest.raises(ValueError, match="count from 1"):
        alpha_of(0)


def test_fresh_labels_are_the_first_attempt() -> None:
    assert choose_attempt(dict.fromkeys("abc", 0)) == (1, ["a", "b", "c"])


def test_labels_that_judged_twice_are_the_third_attempt() -> None:
    assert choose_attempt(dict.fromkeys("abc", 2)) == (3, ["a", "b", "c"])


def test_enough_fresh_labels_judge_without_the_spent_ones() -> None:
    spent, fresh = {f"s{i}": 4 for i in range(50)}, {f"f{i}": 0 for i in range(200)}
    attempt, labels = choose_attempt(spent | fresh)
    assert (attempt, set(labels)) == (1, set(fresh))


def test_a_few_fresh_labels_judge_together_with_the_spent_ones() -> None:
    spent, fresh = {f"s{i}": 1 for i in range(200)}, {f"f{i}": 0 for i in range(20)}
    assert choose_attempt(spent | fresh) == (2, [*spent, *fresh])


def test_after_five_attempts_labels_are_used_up() -> None:
    assert choose_attempt({"a": MOST_ATTEMPTS}) == (MOST_ATTEMPTS + 1, [])
    assert choose_attempt({"a": MOST_ATTEMPTS, "b": 0}) == (1, ["b"])


def test_without_labels_nothing_is_spent() -> None:
    assert choose_attempt({}) == (1, [])


def test_looks_count_attempts_that_used_a_label() -> None:
    assert looks_of(["a", "b", "c"], [["a", "b"], ["a"]]) == {"a": 2, "b": 1, "c": 0}


def test_holm_stops_at_the_first_hypothesis_that_stays() -> None:
    assert holm([0.04, 0.01, 0.03]) == [False, True, False]
    assert holm([0.016, 0.024, 0.049]) == [True, True, True]
    assert holm([]) == []
