"""The labelling queue over HTTP: request bodies and replies."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.schemas.predictions import PredictionFields, Wire

MAX_LEASE = 100  # samples in one lease over HTTP
MAX_LABELS = 1000  # on one page
_EXTENSIONS = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}

Text = Annotated[str, Field(min_length=1, max_length=128)]
Annotator = Annotated[Text, Field(description="Who labels.")]
Token = Annotated[Text, Field(description="The client chooses it for one lease; send it again to retry safely.")]
SampleId = Annotated[str, Field(min_length=1, max_length=64)]
LeaseSeconds = Annotated[float | None, Field(gt=0, le=86_400, description="How long to keep the samples.")]
UnixTime = Annotated[float, Field(description="Unix time, seconds.")]


class _OfModel(Wire):
    model: str | None = Field(default=None, description="Whose queue; the default model's when left out.")


class _ByAnnotator(_OfModel):
    annotator: Annotator
    token: Token


class LeaseRequest(_ByAnnotator):
    n: int = Field(default=1, ge=1, le=MAX_LEASE)
    lease_s: LeaseSeconds = None


class ExtendRequest(_ByAnnotator):
    lease_s: LeaseSeconds = None


class LabelFields(Wire):
    """Exactly one of the two."""

    values: list[Any] | dict[str, Any] | None = Field(
        default=None,
        description="One [x, y] in pixels of the image as posted for each keypoint, null for one that cannot be "
        "placed; or one number for each value of a vector. A list in the order of the task's names, or a mapping "
        "that names each.",
    )
    keypoints: list[Any] | None = Field(
        default=None, description="As in a COCO annotation: x, y, v for each keypoint; v = 0 is one not placed."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.values is None) == (self.keypoints is None):
            raise ValueError("a label has either values or keypoints")
        return self


class LabelRequest(_ByAnnotator):
    sample_id: SampleId
    label: LabelFields


class SkipRequest(_ByAnnotator):
    sample_id: SampleId


class RejectRequest(_ByAnnotator):
    sample_id: SampleId
    reason: Annotated[Text, Field(description="Why it cannot be labelled: blurred, nobody in it, ...")]


class RequeueRequest(_OfModel):
    sample_ids: Annotated[list[SampleId], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="Which dead letters; all of them when left out."
    )


class SampleReply(Wire):
    sample_id: str
    model: str
    version: str
    content_type: str
    lane: Literal["predicted_loss", "ood_score", "audit"]
    reasons: list[str] = Field(description="Why the verdict is lossy; may be empty in the audit lane.")
    source: str | None = Field(description="The X-Source header of its request.")
    audit_probability: float | None = Field(description="Probability of being drawn, in the audit lane.")
    value: float = Field(
        description="Surprise of the score under the reference, in nats. Samples with a larger value are leased first."
    )
    predicted_loss: float
    score: float
    ood_score: float
    prediction: PredictionFields
    flagged_at: UnixTime
    width: int = Field(description="Of the image as posted, upright, in pixels.")
    height: int
    image: str = Field(description="Where to GET the original bytes.")


class KnownSample(SampleReply):
    state: Literal["pending", "leased", "labelled", "rejected", "dead"] = Field(
        description="dead: its leases ran out, or it was skipped, too often (see /v1/queue/requeue)."
    )
    reject_reason: str | None = Field(description="Of a rejected sample: why it could not be labelled.")


class LeasedSample(SampleReply):
    annotator: str
    token: str
    lease_expires_at: float = Field(description="Unix time, seconds, by the queue's clock.")


class LeaseReply(Wire):
    samples: list[LeasedSample] = Field(
        description="Most valuable first. Fewer than asked for, or none, when no more are pending, when the budget "
        "of the hour is spent, or when this annotator skipped thousands that still wait: one call passes over "
        "10,000 of them at most, and the next call continues from there."
    )


class AuditsReply(Wire):
    samples: list[SampleReply] = Field(description="Pending ones of the audit lane, the newest first.")


class LabelReply(Wire):
    sample_id: str
    state: Literal["labelled"] = "labelled"
    repeated: bool = Field(description="The very same label was there already.")


class SkipReply(Wire):
    sample_id: str
    state: Literal["skipped"] = "skipped"


class RejectReply(Wire):
    sample_id: str
    state: Literal["rejected"] = "rejected"


class RequeueReply(Wire):
    requeued: int


class EraseReply(Wire):
    sample_id: str
    erased: bool = Field(
        description="False: the queue and this replica's journal know no such sample; another replica's journal may. "
        "True also when it was erased before."
    )


class LabelsQuery(BaseModel):
    """Of GET /v1/labels. Not strict: everything in a URL is text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(default=None, description="Whose labels; the default model's when left out.")
    cursor: str = Field(default="", max_length=128, description="From X-Next-Cursor; the first page when left out.")
    n: int = Field(default=100, ge=1, le=MAX_LABELS, description="Labels on the page.")
    format: Literal["ndjson", "coco"] = "ndjson"


class LabelValues(Wire):
    values: list[Any] = Field(description="[x, y] or null for each keypoint, or one number for each value.")


class LabelLine(Wire):
    """One line of GET /v1/labels."""

    sample_id: str
    model: str
    version: str = Field(description="Of the model that made the prediction.")
    label: LabelValues
    annotator: str
    labelled_at: UnixTime
    lane: Literal["predicted_loss", "ood_score", "audit"]
    audit_probability: float | None
    source: str | None = Field(description="The X-Source that the image came with.")
    prediction: PredictionFields
    predicted_loss: float
    flagged_at: UnixTime
    width: int
    height: int
    image: str


def file_name(sample_id: str, content_type: str) -> str:
    """File name of a sample's image, in folders and in COCO documents."""
    return sample_id + _EXTENSIONS.get(content_type, "")


def image_path(model: str, sample_id: str) -> str:
    """The path of GET for a sample's image."""
    return f"/v1/samples/{sample_id}/image?model={model}"
