"""The report holds the figures of its parts, leaves out what is undefined, and explains each figure when printed."""

import io

import numpy as np
import pytest
from rich.console import Console

from models.evaluation.metrics import auroc, normalised_aurc, risk_at_coverage
from models.evaluation.report import EXPLANATIONS, print_report, report


def _columns(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    losses = rng.gamma(2, size=n)
    return losses + rng.normal(size=n), losses, np.arange(n) // 4


def test_report_is_what_its_parts_say() -> None:
    scores, losses, sources = _columns(400)
    flagged = scores > 4
    figures = report(scores, losses, sources % 3, 4.0, scores, flagged, sources)
    assert set(EXPLANATIONS) <= set(figures)
    assert figures["examples"] == 400
    assert figures["one_minus_naurc"] == 1 - normalised_aurc(scores, losses)
    assert figures["failure_auroc"] == auroc(scores, losses > 4)
    assert figures["risk_at_80_coverage"] == risk_at_coverage(scores, losses, 0.8)
    assert figures["failures_flagged"] == np.mean(flagged[losses > 4])
    assert figures["mean_loss_flagged"] > figures["mean_loss"] > figures["mean_loss_not_flagged"]
    for key in ("rank_correlation", "failure_auroc", "one_minus_naurc", "risk_at_80_coverage"):
        assert figures[f"{key}_low"] < figures[key] < figures[f"{key}_high"]


@pytest.mark.parametrize("losses", [np.zeros(8), np.ones(8), np.arange(8.0)], ids=["zero", "constant", "no failure"])
def test_report_leaves_out_what_is_undefined(losses: np.ndarray) -> None:
    figures = report(np.arange(8), losses, np.zeros(8), 100.0, losses, np.zeros(8, bool), np.arange(8))
    assert np.isfinite(list(figures.values())).all()
    assert "failure_auroc" not in figures
    assert figures["mean_loss"] == losses.mean()


def test_printed_report_has_a_row_for_each_figure_with_its_words() -> None:
    scores, losses, sources = _columns(100)
    output = io.StringIO()
    print_report(
        report(scores, losses, sources, 4.0, scores, scores > 4, sources), "A title", Console(file=output, width=200)
    )
    text = output.getvalue()
    assert "A title" in text
    assert all(name in text and meaning in text for name, meaning in EXPLANATIONS.values())
