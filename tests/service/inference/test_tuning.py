import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract.bundle import BundleError
from service.inference.engine import Engine
from service.inference.tuning import enough_workers, smallest_near_best, tune
from service.versions.bundle_store import BundleStore


class Model:
    """Takes a fixed time for each batch and one for each image, on as many processors as there are workers."""

    def __init__(self, batch_s: float, image_s: float, *, pad_to: int = 1) -> None:
        self.batch_s, self.image_s, self.pad_to = batch_s, image_s, pad_to
        self.warmed: set[int] = set()
        self.cold: set[int] = set()

    def batch_sizes(self, largest: int | None = None) -> list[int]:
        return [1, 2, 4, 8] if largest is None else [1, largest]

    def worker_counts(self) -> list[int]:
        return [1, 2]

    def padded(self, size: int) -> int:
        return -(-size // self.pad_to) * self.pad_to

    def warm_up(self, size: int) -> None:
        self.warmed.add(size)

    def rehearse(self, size: int) -> None:
        self.cold |= {size} - self.warmed
        time.sleep(self.batch_s + size * self.image_s)


def test_a_model_that_gains_by_batches_gets_large_ones() -> None:
    tuning = tune(Model(batch_s=0.008, image_s=0.0001))
    assert tuning.max_batch == 8
    assert tuning.batch_sizes == (1, 2, 3, 4, 5, 6, 7, 8)


def test_a_model_that_gains_nothing_by_batches_gets_one_image_at_a_time() -> None:
    tuning = tune(Model(batch_s=0.0, image_s=0.02))
    assert tuning.max_batch == 1
    assert 8 not in tuning.by_batch  # it stopped when two doublings had brought nothing


def test_a_second_worker_is_taken_when_it_pays() -> None:
    assert tune(Model(batch_s=0.01, image_s=0.0), max_batch=1).workers == 2


@pytest.mark.parametrize(
    ("images_per_s", "workers"),
    [
        ({1: 110, 2: 215}, 2),  # the engine is what takes the time
        ({1: 4500, 2: 9000}, 1),  # two processors cannot decode and answer as many as one worker computes
        ({1: 4500, 2: 9000, 4: 18000, 8: 36000}, 4),  # eight can
        ({1: 2000, 2: 1500}, 1),  # the second one is in the way
    ],
)
def test_workers_are_as_many_as_the_rest_of_the_service_can_feed(images_per_s: dict[int, float], workers: int) -> None:
    assert enough_workers(images_per_s) == workers


def test_given_values_are_kept() -> None:
    tuning = tune(Model(batch_s=0.01, image_s=0.0001), max_batch=3, workers=1)
    assert (tuning.max_batch, tuning.workers) == (3, 1)
    assert set(tuning.by_batch) == {3}
    assert set(tuning.by_workers) == {1}


def test_a_model_too_slow_to_try_much_is_tried_little() -> None:
    model = Model(batch_s=0.0, image_s=0.1)
    tuning = tune(model, spend_s=0.1)
    assert set(tuning.by_batch) == {1}
    assert model.warmed == {1}


def test_nothing_runs_that_was_not_warmed_up_before() -> None:
    model = Model(batch_s=0.002, image_s=0.0, pad_to=4)
    tuning = tune(model, max_batch=8)
    assert tuning.batch_sizes == (4, 8)
    assert set(tuning.batch_sizes) <= model.warmed
    assert not model.cold


def test_the_real_engine_is_tuned_and_then_answers_every_size(tiny_store: Path) -> None:
    bundle = BundleStore(tiny_store).load("tiny", "1")
    engine = Engine(bundle.onnx, bundle.manifest)
    tuning = tune(engine, spend_s=0.3)
    assert tuning.max_batch in tuning.by_batch
    assert tuning.workers in tuning.by_workers
    assert tuning.batch_sizes == tuple(range(1, tuning.max_batch + 1))
    assert tuning.images_per_s > 0


def test_an_engine_that_fails_stops_the_tuning(tiny_store: Path) -> None:
    bundle = BundleStore(tiny_store).load("tiny", "1")
    engine = Engine(bundle.onnx, bundle.manifest.model_copy(update={"embedding_size": 5}))
    with pytest.raises(BundleError, match="embedding has shape"):
        tune(engine, max_batch=1, workers=1)


@given(st.dictionaries(st.integers(1, 64), st.floats(0.1, 1e6), min_size=1))
def test_the_choice_is_within_3_percent_of_the_best_and_nothing_smaller_is(images_per_s: dict[int, float]) -> None:
    chosen = smallest_near_best(images_per_s)
    best = max(images_per_s.values())
    assert images_per_s[chosen] >= 0.97 * best
    assert all(rate < 0.97 * best for choice, rate in images_per_s.items() if choice < chosen)
