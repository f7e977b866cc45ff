import asyncio
from types import SimpleNamespace
from typing import Any, cast

from service.api.health import metrics
from service.telemetry.metrics import Metrics


class TogetherQueue:
    """Answers once it was asked about two models, and fails for one of them."""

    def __init__(self) -> None:
        self._both = asyncio.Barrier(2)

    async def stats(self, model: str) -> dict[str, int]:
        await self._both.wait()
        if model == "second":
            raise OSError("away")
        return {"pending": 7}


async def test_a_scrape_asks_the_queue_about_all_models_at_once_and_shows_the_answers_that_come() -> None:
    """With one question after the other, a server that hangs would cost one timeout per model, too long a scrape."""
    shared = SimpleNamespace(
        models=SimpleNamespace(names=["first", "second"]), queue=TogetherQueue(), metrics=Metrics()
    )
    reply = await asyncio.wait_for(metrics(cast("Any", shared)), 10)
    lines = bytes(reply.body).decode().splitlines()
    assert 'losscast_queue_up{model="first"} 1.0' in lines
    assert 'losscast_queue_up{model="second"} 0.0' in lines
    assert 'losscast_queue_samples{model="first",state="pending"} 7.0' in lines
