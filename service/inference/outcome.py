"""The frozen record of one answered item. Metrics, drift and the labelling queue observe it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.inference.verdict import Verdict

QueueState = Literal["accepted", "none", "unavailable"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """One row of the engine's output. Keypoints are in canvas pixels."""

    prediction: NDArray[np.float32]  # [k, 2] keypoints or [k] vector
    score: float  # raw, higher is worse; verdicts compare it
    predicted_loss: float  # in the task's loss unit
    ood_score: float
    embedding: NDArray[np.float32]  # [e]
    keypoint_loss: NDArray[np.float32] | None = None  # [k], for keypoint models that have it


@dataclass(frozen=True, slots=True)
class Outcome:
    request_id: str
    sample_id: str  # unique per model and content
    model: str
    version: str
    prediction: NDArray[np.float64]  # [k, 2] in pixels of the image as posted, or [k]
    forecast: Forecast
    verdict: Verdict
    value: float  # of a label: the surprise of the score under the reference, in nats
    ood_value: float  # the surprise of the OOD score, in nats
    audited: bool  # drawn for the audit lane, before the verdict
    counts_for_drift: bool = True  # False: its source sent another image seconds before
    queue: QueueState = "none"
    station_s: Mapping[str, float] = field(default_factory=dict)  # seconds that each station of the line took
