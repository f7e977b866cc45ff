from models.training.config import TrainingConfig


def test_effort_scales_the_epochs_but_never_to_none() -> None:
    assert TrainingConfig().scaled(0.5).trunk_epochs == TrainingConfig().trunk_epochs // 2
    assert TrainingConfig().scaled(1e-6).head_epochs == 1
