from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.contract.manifest import Manifest, OrderStatistics
from models.contract.signals import SIGNALS
from service.drift.layout import Layout
from service.drift.statistics import dependence

Change = Callable[[Manifest], dict[str, Any]]


def test_sections_do_not_overlap_and_fill_the_vector(layout: Layout) -> None:
    vector = layout.empty()
    names = [f"{kind}:{name}" for name in SIGNALS for kind in ("counts", "dependence")]
    for section in (*names, "loss", "embedding", "outcomes"):
        layout.of(vector, section)[:] += 1
    np.testing.assert_array_equal(vector, np.ones(layout.size))
    assert len(layout.of(vector, "counts:score")) == len(layout.bins["score"].alpha)
    assert len(layout.of(vector, "dependence:size")) == dependence.SIZE
    assert len(layout.of(vector, "embedding")) == 3


def test_the_sections_with_a_history_are_the_beginning_of_the_vector(layout: Layout) -> None:
    vector = np.arange(layout.size, dtype=np.float64)
    for section in ("counts:score", "counts:size", "loss"):
        np.testing.assert_array_equal(
            layout.of(vector[: layout.remembered], section), layout.of(vector, section), strict=True
        )


def test_a_bundle_without_some_references_watches_the_other_signals(tiny_version: Manifest) -> None:
    layout = Layout(tiny_version)
    assert layout.signals == ("score", "ood_score")
    assert layout.not_watched == ("luminance", "contrast", "sharpness", "aspect", "size")
    assert layout.of(layout.empty(), "embedding").size == 0


def test_a_reference_with_one_value_has_bins(tiny_version: Manifest) -> None:
    constant = OrderStatistics(size=50, ranks=(1, 25, 50), values=(3.0, 3.0, 3.0))
    layout = Layout(tiny_version.model_copy(update={"drift_reference": {"score": constant, "ood_score": constant}}))
    assert layout.bins["score"].alpha.sum() == 51


@pytest.mark.parametrize(
    "change",
    [
        lambda _: {"onnx_sha256": "0" * 64},
        lambda _: {"embedding_reference": None},
        lambda manifest: {
            "drift_reference": {
                **manifest.drift_reference,
                "score": manifest.drift_reference["score"].model_copy(update={"jitter": 0.5}),
            }
        },
        lambda manifest: {"drift_reference": {name: manifest.drift_reference[name] for name in SIGNALS[:2]}},
    ],
)
def test_sums_with_another_meaning_have_another_fingerprint(watched: Manifest, change: Change) -> None:
    assert Layout(watched).fingerprint == Layout(watched.model_copy()).fingerprint
    assert Layout(watched).fingerprint != Layout(watched.model_copy(update=change(watched))).fingerprint


@pytest.mark.parametrize("size", [10**17, 10**30])
def test_an_unusable_reference_is_refused(tiny_version: Manifest, size: int) -> None:
    """Its last rank is so close to its size that the bin above it has no probability."""
    odd = OrderStatistics(size=size, ranks=(1, size), values=(0.0, 1.0))
    manifest = tiny_version.model_copy(update={"drift_reference": {"score": odd, "ood_score": odd}})
    with pytest.raises(ValueError, match="the drift reference of score cannot be used"):
        Layout(manifest)
