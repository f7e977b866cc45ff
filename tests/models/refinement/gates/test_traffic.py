"""What judging labels stand for in traffic."""

import numpy as np
import pytest

from models.refinement.gates.traffic import traffic_weights

NONE = np.zeros(0, bool)


def test_an_audit_label_stands_for_one_over_its_probability() -> None:
    assert traffic_weights(np.array([0.1, 0.5]), np.array([True, False]), NONE) == pytest.approx([10, 2])


def test_flagged_traffic_is_shared_out_over_audit_and_watch_labels() -> None:
    weights = traffic_weights(np.full(10, 0.1), np.arange(10) < 2, np.ones(6, bool))
    assert weights.sum() == pytest.approx(100)
    assert weights[:2] == pytest.approx([2.5, 2.5])
    assert weights[10:] == pytest.approx(np.full(6, 2.5))


def test_watch_labels_that_live_does_not_flag_stand_for_nothing() -> None:
    weights = traffic_weights(np.full(4, 0.1), np.arange(4) < 1, np.array([True, False]))
    assert weights[-1] == 0
    assert weights.sum() == pytest.approx(40)


def test_without_a_flagged_audit_label_watch_labels_stand_for_nothing() -> None:
    assert traffic_weights(np.full(4, 0.1), np.zeros(4, bool), np.ones(2, bool))[4:] == pytest.approx([0, 0])
