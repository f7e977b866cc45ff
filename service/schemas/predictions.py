"""Predictions and errors as JSON, and how an outcome becomes a reply.

orjson writes the replies, and these models document them: nothing is validated a second time. The labelling queue's
models are in `service.schemas.labelling`.
"""

from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.contract.manifest import Manifest
from service.errors import ServiceError
from service.inference.outcome import Outcome, QueueState

MAX_SOURCE = 128


class Wire(BaseModel):
    """Strict: no unknown fields, no numbers from strings or bools, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PredictionFields(Wire):
    kind: Literal["keypoints", "vector"]
    names: list[str]
    values: list[Any] = Field(description="[[x, y], ...] in pixels of the image as posted, or one number per name.")
    predicted_loss: list[float] | None = Field(default=None, description="For each keypoint, if the model predicts it.")


class VerdictFields(Wire):
    lossy: bool
    reasons: list[str] = Field(description='"predicted_loss", "ood_score", or both.')
    operating_point: str = Field(
        description="The operating point whose guarantee this verdict keeps: see the model's `operating_points`."
    )


class PredictReply(Wire):
    request_id: str
    sample_id: str = Field(description="Unique for a model and an image content.")
    model: str
    version: str
    prediction: PredictionFields
    predicted_loss: float = Field(description="The loss that the model expects to make, in `loss_unit`.")
    loss_unit: str
    ood_score: float = Field(description="Distance of the image's embedding from the reference.")
    verdict: VerdictFields
    queue: QueueState = Field(
        description="accepted: journalled for labelling; none: not flagged; unavailable: journal full or broken."
    )


class ErrorFields(Wire):
    code: str
    message: str = Field(description="What is wrong and what to do, in one line.")
    request_id: str


class ErrorReply(Wire):
    error: ErrorFields


class ManyReply(Wire):
    results: list[PredictReply | ErrorReply] = Field(description="One for each image of the form, in its order.")


class OipError(Wire):
    error: str = Field(description="What is wrong and what to do, in one line.")


def is_source(text: str) -> bool:
    """Whether the text is a valid X-Source: 1 to MAX_SOURCE printable ASCII characters, as headers allow."""
    return 0 < len(text) <= MAX_SOURCE and text.isascii() and text.isprintable()


def prediction_fields(
    manifest: Manifest, values: NDArray[np.floating], keypoint_loss: NDArray[np.floating] | None
) -> dict[str, Any]:
    """The `prediction` of a reply or a sample. values: [k, 2] in image pixels, or [k]."""
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
    """Body and headers of an error: a string under /v2 (Open Inference Protocol), an object elsewhere."""
    headers = {"content-type": "application/json"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.status == 401:  # noqa: PLR2004 - only this status must name its scheme (RFC 9110, 11.6.1)
        headers["www-authenticate"] = "Bearer"
    if path.startswith("/v2"):
        return orjson.dumps({"error": str(error)}), headers
    return error_object(error, request_id), headers


def error_object(error: ServiceError, request_id: str) -> bytes:
    """The body of an ErrorReply."""
    return orjson.dumps({"error": {"code": error.code, "message": str(error), "request_id": request_id}})
