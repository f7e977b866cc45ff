"""A sample is an input on its way to an annotator: the journal keeps it and the queue leases it out.

Its image travels separately, through the journal into the blob store.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

import orjson

from models.contract.snapshot import Lane

Json = bytes  # an own name, because Sample has a field `bytes`


@dataclass(frozen=True, slots=True)
class Sample:
    id: str  # 32 hex digits, unique per model and content
    model: str
    version: str
    content_type: str
    reasons: tuple[str, ...]  # why the verdict is lossy; empty when it is not, in the audit lane
    value: float  # worth of a label: surprise of the score, in nats; the queue orders samples by it
    predicted_loss: float  # in the task's loss unit
    score: float  # raw, higher is worse
    ood_score: float
    prediction: Any  # as in the reply to the caller, JSON-able
    flagged_at: float  # unix seconds
    width: int  # of the image as posted, upright
    height: int
    lane: Lane = "predicted_loss"  # "ood_score": flagged by it alone; "audit": drawn at random, before the verdict
    source: str | None = None  # the camera or client it came from, as named by the caller
    audit_probability: float | None = None  # of being drawn for the audit lane
    counts_for_drift: bool = True  # False: its source sent another image seconds before; drift skips it
    bytes: int = 0  # size of the image file
    blob: str = ""  # name of the image in the blob store, given by the queue; empty: the image is named by the id

    @property
    def image(self) -> str:
        """The image's name in the blob store."""
        return self.blob or self.id

    def to_json(self) -> Json:
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Inverse of to_json. Raises ValueError when the bytes are not a sample's."""
        try:
            fields = orjson.loads(data)
            # A later build may have written more fields: this one ignores them.
            known = {name: fields[name] for name in cls.__dataclass_fields__}
            return cls(**{**known, "reasons": tuple(known["reasons"])})
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"not a sample: {error}") from error


def flagged_lane(reasons: Collection[str]) -> Lane:
    """The lane of a sample that was flagged for these reasons."""
    return "predicted_loss" if "predicted_loss" in reasons else "ood_score"


def sample_id(model: str, image: bytes) -> str:
    """32 hex digits of a SHA-256 over the model's name and the image file's bytes."""
    digest = hashlib.sha256(model.encode())
    digest.update(b"\0")
    digest.update(image)
    return digest.hexdigest()[:32]
