"""Files that must not be served are refused before anything else is asked."""

from pathlib import Path

import pytest

from models.refinement.gates.integrity import extreme_images, integrity, median_interval, time_result
from models.refinement.gates.run import Material, run_gates, write_report
from tests.conftest import BRIGHTNESS, FAULTY
from tests.models.refinement.gates.conftest import TinyTask, TinyWorld

DEPENDS_ON_ITS_BATCH = BRIGHTNESS.replace(
    "predicted_loss = Exp (score)",
    "alone = Exp (score)\n    largest = ReduceMax <keepdims = 0> (score)\n    predicted_loss = Mul (alone, largest)",
)
NOT_A_NUMBER = BRIGHTNESS.replace(
    "predicted_loss = Exp (score)", "nothing_left = Sub (score, one)\n    predicted_loss = Log (nothing_left)"
)


@pytest.mark.parametrize(
    ("text", "why"),
    [(DEPENDS_ON_ITS_BATCH, "between single images and a batch"), (NOT_A_NUMBER, "not finite"), (FAULTY, "cannot run")],
)
def test_a_model_that_breaks_is_refused(world: TinyWorld, text: str, why: str) -> None:
    if text == FAULTY:
        text = text.replace("{0.95}", "{2.0}").replace("{0.85}", "{2.0}")
    whole, time = integrity(world.inputs(world.version("live"), world.version("broken", text=text)))
    assert whole.outcome == "failed"
    assert why in whole.sentence
    assert time.outcome == "not_asked"


def test_a_damaged_file_is_refused_and_reported_without_pictures(world: TinyWorld) -> None:
    broken = world.version("broken")
    (broken / "model.onnx").write_bytes(b"gone")
    inputs = world.inputs(world.version("live"), broken)
    report = run_gates(Material(inputs), "c1")
    assert report.results[0].outcome == "failed"
    assert "SHA-256" in report.results[0].sentence
    write_report(report, Material(inputs), world.root)
    assert not list((world.root / "pictures").iterdir())


def test_a_candidate_of_another_loss_cannot_be_compared(world: TinyWorld, tmp_path: Path) -> None:
    other = TinyWorld(tmp_path / "other")
    other.task.loss = other.task.loss.model_copy(update={"failure_level": 3.0})
    whole, _ = integrity(world.inputs(world.version("live"), other.version("candidate")))
    assert "another loss" in whole.sentence


def test_extreme_images_are_a_full_batch_of_different_canvases() -> None:
    images = extreme_images(TinyTask.preprocessing)
    assert images.shape == (32, 8, 8, 1)
    assert len({image.tobytes() for image in images}) > 28


def test_only_a_proven_delay_fails() -> None:
    assert median_interval([1.0] * 31) == (1.0, 1.0)
    low, high = median_interval([float(ratio) for ratio in range(31)])
    assert low < 15 < high
    assert time_result(1.2, 1.0, 1.5, 31).outcome == "passed"
    assert time_result(1.2, 1.15, 1.5, 31).outcome == "failed"
