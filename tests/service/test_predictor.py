"""The line, asked without HTTP: what comes as a canvas instead of a file."""

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stamina
from numpy.typing import NDArray
from PIL import Image

from service.app import create_app
from service.errors import BadRequest, DeadlineExceeded
from service.inference.decode import png
from service.inference.intake import Intake
from service.resources import Resources
from service.settings import Settings

LOSSY, PASSED = np.full((8, 8, 1), 200, np.uint8), np.full((8, 8, 1), 50, np.uint8)


@pytest.fixture
async def resources(tiny_store: Path, tmp_path: Path, no_grace: None) -> AsyncIterator[Resources]:  # noqa: ARG001 - nothing is killed here
    settings = Settings(
        bundles=tiny_store, model="tiny", state=tmp_path / "state", audit_rate=0, max_batch=8, workers=2
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app.state.resources


async def test_a_canvas_is_answered_in_its_own_pixels_and_queued_as_a_png_of_them(resources: Resources) -> None:
    canvas = LOSSY + np.arange(64, dtype=np.uint8).reshape(8, 8, 1) % 7
    outcome = await resources.predictor().predict_canvas(canvas, Intake("mine"))
    assert outcome.queue == "accepted"
    assert outcome.prediction.tolist() == [[2.0, 2.0], [6.0, 6.0]]
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert (await resources.queue.stats("tiny"))["pending"] == 1
    name = await resources.queue.image("tiny", outcome.sample_id)
    image = Image.open(io.BytesIO(await resources.blobs.get(name)))
    assert image.format == "PNG"
    assert (np.asarray(image)[..., None] == canvas).all()


async def test_the_same_canvas_is_the_same_sample_and_another_is_another(resources: Resources) -> None:
    line = resources.predictor()
    one, again, other = [await line.predict_canvas(canvas, Intake("id")) for canvas in (PASSED, PASSED.copy(), LOSSY)]
    assert one.sample_id == again.sample_id != other.sample_id
    assert one.queue == "none"


@pytest.mark.parametrize(
    "canvas", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 1), np.float32)]
)
async def test_what_is_no_canvas_of_the_model_is_refused(resources: Resources, canvas: NDArray[Any]) -> None:
    with pytest.raises(BadRequest, match=r"uint8 \[8, 8, 1\]"):
        await resources.predictor().predict_canvas(canvas, Intake("mine"))


async def test_a_client_that_leaves_while_its_sample_is_journalled_costs_no_sample(resources: Resources) -> None:
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Held(ThreadPoolExecutor):
        """Makes no PNG before it may."""

        def submit(self, *call: Any) -> Any:  # type: ignore[override]  # positional as asyncio calls it
            loop.call_soon(begun.set)
            super().submit(go_on.wait)
            return super().submit(*call)

    with Held(1) as decoders:
        line = replace(resources.predictor(), decoders=decoders)
        asked = asyncio.create_task(line.predict_canvas(LOSSY, Intake("mine")))
        await begun.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        go_on.set()
        async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
            with attempt:
                assert (await resources.queue.stats("tiny"))["pending"] == 1


async def test_an_image_whose_deadline_has_passed_is_not_decoded(resources: Resources) -> None:
    with pytest.raises(DeadlineExceeded):
        await resources.predictor().predict(b"not even looked at", Intake("mine", deadline=time.monotonic()))


async def test_a_sample_says_whether_drift_counts_it_and_a_canvas_has_no_size_there(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = resources.predictor()
    seen: list[object] = []
    observe = line.drift.observe

    def note(forecast: Any, canvas: Any, size: Any, source: str | None) -> bool:
        seen.append(size)
        return observe(forecast, canvas, size, source)

    monkeypatch.setattr(line.drift, "observe", note)
    first = await line.predict_canvas(LOSSY, Intake("id", "camera"))
    again = await line.predict_canvas(LOSSY + np.uint8(1), Intake("id", "camera"))
    posted = await line.predict(png(PASSED), Intake("id"))
    assert [outcome.counts_for_drift for outcome in (first, again, posted)] == [True, False, True]
    assert seen == [None, None, (8, 8)]
    async for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=20, wait_max=0.05):
        with attempt:
            assert (await resources.queue.stats("tiny"))["pending"] == 2
    samples = [await resources.queue.get("tiny", outcome.sample_id) for outcome in (first, again)]
    assert [sample.counts_for_drift for sample in samples] == [True, False]
