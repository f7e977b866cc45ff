"""A ledger on a real server, and a bundle with every kind of reference."""

from collections.abc import Callable

import numpy as np
import pytest

from models.contract.manifest import Manifest, OrderStatistics
from models.contract.reference import EmbeddingReference, LossReference
from models.contract.signals import SIGNALS
from service.drift.layout import Layout
from service.drift.ledger import Ledger
from service.inference.outcome import Forecast
from service.redis.server import RedisServer

MakeForecast = Callable[..., Forecast]


@pytest.fixture
def ledger(redis: RedisServer) -> Ledger:
    return Ledger(redis)


@pytest.fixture
def watched(tiny_version: Manifest, model: str) -> Manifest:
    """`tiny` under a name of its own; each signal's reference is 999 values, evenly spread over 0 to 1."""
    even = OrderStatistics(
        size=999, ranks=tuple(range(1, 1000)), values=tuple(rank / 1000 for rank in range(1, 1000)), jitter=1e-6
    )
    return tiny_version.model_copy(
        update={
            "model": model,
            "drift_reference": dict.fromkeys(SIGNALS, even),
            "loss_reference": LossReference(mean_predicted_loss=0.5, sd=0.29, n=999),
            "embedding_reference": EmbeddingReference(
                size=999, projection=((1.0, 0.0, 0.0, 0.0), (0.0, 2.0, 0.0, 0.0)), offset=(0.0, 1.0)
            ),
        }
    )


@pytest.fixture
def layout(watched: Manifest) -> Layout:
    return Layout(watched)


@pytest.fixture
def make_forecast() -> MakeForecast:
    def make(score: float, ood_score: float = 0.5, embedding: tuple[float, ...] = (0.0, 0.5, 0.0, 0.0)) -> Forecast:
        return Forecast(np.zeros((2, 2), np.float32), score, score, ood_score, np.array(embedding, np.float32))

    return make
