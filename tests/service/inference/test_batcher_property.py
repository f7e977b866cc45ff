"""In any interleaving each caller gets the answer to its own item, as if it had asked alone."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.errors import DeadlineExceeded, ModelFault
from service.inference.batcher import Batcher
from service.inference.engine import Engine
from service.inference.outcome import Forecast
from service.versions.bundle_store import BundleStore

BUNDLES = Path(__file__).parents[3] / "bundles"

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Caller:
    pauses: int  # turns of the event loop before it asks
    patience: int | None = None  # turns after which it leaves; None: it stays
    late: bool = False  # its deadline has passed


PATIENCE = st.one_of(st.none(), st.integers(0, 4))
CALLERS = st.lists(st.builds(Caller, pauses=st.integers(0, 6), patience=PATIENCE, late=st.booleans()), max_size=60)


async def turns(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def ask(batcher: Batcher[In, Out], item: In, caller: Caller) -> Out:
    await turns(caller.pauses)
    return (await batcher(item, time.monotonic() if caller.late else math.inf)).output


async def leave(task: "asyncio.Task[Out]", caller: Caller) -> None:
    if caller.patience is not None:
        await turns(caller.patience)
        task.cancel()


async def ask_all(
    batcher: Batcher[In, Out], items: Sequence[In], callers: Sequence[Caller]
) -> list[Out | BaseException]:
    async with batcher:
        tasks = [asyncio.create_task(ask(batcher, item, caller)) for item, caller in zip(items, callers, strict=True)]
        await asyncio.gather(*(leave(task, caller) for task, caller in zip(tasks, callers, strict=True)))
        return await asyncio.gather(*tasks, return_exceptions=True)


@given(CALLERS, st.integers(1, 16), st.integers(1, 3), st.sets(st.integers(0, 59), max_size=2))
def test_batched_equals_single_for_any_interleaving(
    callers: list[Caller], max_batch: int, workers: int, culprits: set[int]
) -> None:
    def run(items: Sequence[int]) -> list[int]:
        assert 0 < len(items) <= max_batch
        if culprits & set(items):
            raise ValueError("culprit")
        return [2 * item for item in items]

    batcher = Batcher(run, max_batch=max_batch, workers=workers)
    answers = asyncio.run(ask_all(batcher, range(len(callers)), callers))
    for number, (caller, answer) in enumerate(zip(callers, answers, strict=True)):
        if isinstance(answer, asyncio.CancelledError):
            assert caller.patience is not None
        elif caller.late:
            assert isinstance(answer, DeadlineExceeded)
        elif number in culprits:
            assert isinstance(answer, ModelFault)
        else:
            assert answer == 2 * number


@pytest.fixture(scope="module")
def tiny_engine(tiny_store: Path) -> Callable[[Sequence[NDArray[np.uint8]]], Sequence[Forecast | ModelFault]]:
    bundle = BundleStore(tiny_store).load("tiny", "1")
    return Engine(bundle.onnx, bundle.manifest)


@given(data=st.data(), max_batch=st.integers(1, 16), workers=st.integers(1, 3))
def test_with_a_real_model_the_numbers_are_those_of_a_single_run_to_the_last_bit(
    tiny_engine: Callable[[Sequence[NDArray[np.uint8]]], Sequence[Forecast]],
    data: st.DataObject,
    max_batch: int,
    workers: int,
) -> None:
    pauses = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=40))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    canvases = list(random.integers(0, 256, (len(pauses), 8, 8, 1), np.uint8))
    batcher = Batcher(tiny_engine, max_batch=max_batch, workers=workers)
    answers = asyncio.run(ask_all(batcher, canvases, [Caller(n) for n in pauses]))
    for canvas, answer in zip(canvases, answers, strict=True):
        (alone,) = tiny_engine([canvas])
        assert isinstance(answer, Forecast)
        assert (answer.score, answer.predicted_loss, answer.ood_score) == (
            alone.score,
            alone.predicted_loss,
            alone.ood_score,
        )
        np.testing.assert_array_equal(answer.prediction, alone.prediction)
        np.testing.assert_array_equal(answer.embedding, alone.embedding)


def test_with_a_convolutional_model_they_agree_to_a_hundred_thousandth() -> None:
    """Sums over a batch may be taken in another order than for a single image; the numbers are float32."""
    bundle = BundleStore(BUNDLES).load("digits", "1")
    engine = Engine(bundle.onnx, bundle.manifest)
    shape = (12, *bundle.manifest.preprocessing.canvas_shape)
    canvases = list(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    for canvas, batched in zip(canvases, engine(canvases), strict=True):
        (alone,) = engine([canvas])
        assert isinstance(alone, Forecast)
        assert isinstance(batched, Forecast)
        for name in ("prediction", "score", "predicted_loss", "ood_score", "embedding"):
            np.testing.assert_allclose(getattr(batched, name), getattr(alone, name), rtol=1e-5, atol=1e-5)
