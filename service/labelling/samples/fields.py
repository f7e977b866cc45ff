"""The fields of a sample, mapped in one place: from the outcome of a prediction, and to the queue's script and replies.

A field with the same name and meaning on both sides is copied by name; only the others are written out here.
"""

import time
from typing import Any

from models.contract.manifest import Manifest
from service.inference.decode import Picture
from service.inference.outcome import Outcome
from service.labelling.queue.label_queue import LabelRecord
from service.labelling.samples.sample import Sample, flagged_lane
from service.schemas.labelling import LabelLine, SampleReply, image_path
from service.schemas.predictions import PredictionFields, prediction_fields

_COPIED = SampleReply.model_fields.keys() & Sample.__dataclass_fields__.keys()


def sample_of(  # noqa: PLR0913 - the fields come from so many places
    outcome: Outcome, picture: Picture, manifest: Manifest, *, file_bytes: int, source: str | None, audit_rate: float
) -> Sample:
    """The sample of an input that was flagged, or drawn for audit at audit_rate. file_bytes: size of its image file."""
    return Sample(
        id=outcome.sample_id,
        model=outcome.model,
        version=outcome.version,
        content_type=picture.media_type,
        reasons=outcome.verdict.reasons,
        value=outcome.value,
        predicted_loss=outcome.forecast.predicted_loss,
        score=outcome.forecast.score,
        ood_score=outcome.forecast.ood_score,
        prediction=prediction_fields(manifest, outcome.prediction, outcome.forecast.keypoint_loss),
        flagged_at=time.time(),
        width=picture.width,
        height=picture.height,
        lane="audit" if outcome.audited else flagged_lane(outcome.verdict.reasons),
        audit_probability=audit_rate if outcome.audited else None,
        source=source,
        counts_for_drift=outcome.counts_for_drift,
        bytes=file_bytes,
    )


def put_arguments(sample: Sample) -> tuple[str | int | bytes, ...]:
    """The arguments of put.lua for one sample, in its order."""
    head = (sample.id, sample.lane, repr(sample.value), sample.bytes, repr(sample.flagged_at))
    return (*head, sample.image, sample.source or "", sample.to_json())


def reply_fields(sample: Sample) -> dict[str, Any]:
    """The fields of a SampleReply."""
    return {
        **{name: getattr(sample, name) for name in _COPIED},
        "sample_id": sample.id,
        "reasons": list(sample.reasons),
        "prediction": PredictionFields(**sample.prediction),
        "image": image_path(sample.model, sample.id),
    }


def line_fields(record: LabelRecord) -> dict[str, Any]:
    """The fields of a LabelLine, in its order."""
    sample = record.sample
    own = {
        "sample_id": sample.id,
        "label": record.label,
        "annotator": record.annotator,
        "labelled_at": record.labelled_at,
        "image": image_path(sample.model, sample.id),
    }
    return {name: own[name] if name in own else getattr(sample, name) for name in LabelLine.model_fields}
