import numpy as np
import pytest

from models.tasks.corruption import CORRUPTIONS, Corruption, corrupt

IMAGE = np.random.default_rng(0).integers(60, 120, (64, 48, 1)).astype(np.uint8)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_strength_zero_changes_nothing_and_more_strength_changes_more(kind: Corruption) -> None:
    def change(strength: float) -> float:
        corrupted = [corrupt(IMAGE, np.random.default_rng(seed), kind, strength) for seed in range(20)]
        assert all(one.shape == IMAGE.shape and one.dtype == np.uint8 for one in corrupted)
        return float(np.mean([np.abs(one.astype(float) - IMAGE).mean() for one in corrupted]))

    assert change(0.0) == 0
    assert 0 < change(0.3) < change(1.0)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_image_given_is_left_alone(kind: Corruption) -> None:
    before = IMAGE.copy()
    corrupt(IMAGE, np.random.default_rng(0), kind, 1.0)
    np.testing.assert_array_equal(IMAGE, before)


def test_full_inversion_is_the_negative() -> None:
    np.testing.assert_array_equal(corrupt(IMAGE, np.random.default_rng(0), "inversion", 1.0), 255 - IMAGE)


def test_unknown_kinds_and_strengths_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="inversion, occluder"):
        corrupt(IMAGE, rng, "rain", 0.5)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match=r"0\.\.1"):
        corrupt(IMAGE, rng, "inversion", 1.5)
