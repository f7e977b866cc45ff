"""What goes over the wire: request bodies (strict), replies, and how an outcome becomes one.

Replies are written by orjson and documented by these models; nothing is validated a second time.
"""

from typing import Annotated, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.contract.manifest import Manifest
from service.errors import ServiceError
from service.outcome import Outcome, QueueState

Token = Annotated[
    str, Field(min_length=1, max_length=128, description="Chosen by the client; repeat it to retry safely.")
]
Annotator = Annotated[str, Field(min_length=1, max_length=128, description="Who labels.")]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PredictionFields(_Wire):
    kind: Literal["keypoints", "vector"]
    names: list[str]
    values: list[Any] = Field(description="[[x, y], ...] in pixels of the image as posted, or one number per name.")
    predicted_loss: list[float] | None = Field(default=None, description="For each keypoint, where the model has it.")


class VerdictFields(_Wire):
    lossy: bool
    reasons: list[str] = Field(description='Of "predicted_loss" and "ood_score".')
    operating_point: str


class PredictReply(_Wire):
    request_id: str
    sample_id: str = Field(description="Unique per model and content.")
    model: str
    version: str
    prediction: PredictionFields
    predicted_loss: float = Field(description="The loss the model expects to make, in `loss_unit`.")
    loss_unit: str
    ood_score: float = Field(description="Distance of the image's embedding from the reference.")
    verdict: VerdictFields
    queue: QueueState = Field(
        description="accepted: journalled for labelling; none: not flagged; unavailable: journal full or broken."
    )


class LeaseRequest(_Wire):
    model: str | None = Field(default=None, description="Whose queue; the default model's when left out.")
    n: int = Field(default=1, ge=1, le=100)
    annotator: Annotator
    token: Token
    lease_s: float | None = Field(default=None, gt=0, le=86_400, description="How long to keep the samples.")


class LeasedSample(_Wire):
    sample_id: str
    model: str
    version: str
    content_type: str
    reasons: list[str]
    value: float = Field(description="Surprise of the score under the reference, in nats; leases go by it.")
    predicted_loss: float
    score: float
    ood_score: float
    prediction: PredictionFields
    flagged_at: float = Field(description="Unix time, seconds.")
    lease_expires_at: float = Field(description="Unix time, seconds, by the queue's clock.")
    image: str = Field(description="Where to GET the original bytes.")


class LeaseReply(_Wire):
    samples: list[LeasedSample] = Field(description="Most valuable first; empty when nothing is pending.")


class LabelFields(_Wire):
    values: list[Any] = Field(description="Like a prediction's: [[x, y], ...] in image pixels, or one number per name.")


class LabelRequest(_Wire):
    model: str | None = Field(default=None, description="Whose queue; the default model's when left out.")
    sample_id: str = Field(min_length=1, max_length=64)
    annotator: Annotator
    token: Token
    label: LabelFields


class LabelReply(_Wire):
    sample_id: str
    state: Literal["labelled"] = "labelled"


class ErrorFields(_Wire):
    code: str
    message: str = Field(description="What is wrong and what to do, in one line.")
    request_id: str


class ErrorReply(_Wire):
    error: ErrorFields


def prediction_fields(
    manifest: Manifest, values: NDArray[np.floating], keypoint_loss: NDArray[np.floating] | None
) -> dict[str, Any]:
    """`prediction` of a reply and of a sample. values: [k, 2] in image pixels, or [k]."""
    fields: dict[str, Any] = {
        "kind": manifest.task.kind,
        "names": list(manifest.task.names),
        "values": values.tolist(),
    }
    if keypoint_loss is not None:
        fields["predicted_loss"] = keypoint_loss.tolist()
    return fields


def predict_reply(outcome: Outcome, manifest: Manifest) -> bytes:
    """The body of a PredictReply."""
    return orjson.dumps(
        {
            "request_id": outcome.request_id,
            "sample_id": outcome.sample_id,
            "model": outcome.model,
            "version": outcome.version,
            "prediction": prediction_fields(manifest, outcome.prediction, outcome.forecast.keypoint_loss),
            "predicted_loss": outcome.forecast.predicted_loss,
            "loss_unit": manifest.loss.unit,
            "ood_score": outcome.forecast.ood_score,
            "verdict": {
                "lossy": outcome.verdict.lossy,
                "reasons": outcome.verdict.reasons,
                "operating_point": outcome.verdict.operating_point,
            },
            "queue": outcome.queue,
        }
    )


def error_reply(error: ServiceError, request_id: str, path: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers for an error: a string under /v2 (Open Inference Protocol), an object elsewhere."""
    headers = {"content-type": "application/json", "x-request-id": request_id}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.status == 401:  # noqa: PLR2004 - the one status that must name its scheme (RFC 9110, 11.6.1)
        headers["www-authenticate"] = "Bearer"
    if path.startswith("/v2"):
        return orjson.dumps({"error": str(error)}), headers
    return orjson.dumps({"error": {"code": error.code, "message": str(error), "request_id": request_id}}), headers
