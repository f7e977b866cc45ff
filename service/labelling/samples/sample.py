"""An input on its way to an annotator: what the journal keeps and the queue hands out.

The image itself travels beside it, through the journal into the blob store.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, Self

import orjson

Lane = Literal["predicted_loss", "ood_score", "audit"]
Json = bytes  # a name of its own, because Sample has a field `bytes`


@dataclass(frozen=True, slots=True)
class Sample:
    id: str  # 32 hex digits, unique per model and content
    model: str
    version: str
    content_type: str
    reasons: tuple[str, ...]  # why the verdict is lossy; empty when it is not, in the audit lane
    value: float  # what a label would be worth: surprise of the score, in nats; the queue's order
    predicted_loss: float  # in the task's loss unit
    score: float  # raw, higher is worse
    ood_score: float
    prediction: Any  # as in the reply to the caller, JSON-able
    flagged_at: float  # unix seconds
    width: int  # of the image as posted, upright
    height: int
    lane: Lane = "predicted_loss"  # "ood_score": flagged by that alone; "audit": drawn, whatever the verdict
    source: str | None = None  # the camera or client that it came from, as the caller names it
    audit_probability: float | None = None  # with which it was drawn for the audit lane
    counts_for_drift: bool = True  # False: a further image of its source within seconds, which drift does not count
    bytes: int = 0  # size of the image file
    blob: str = ""  # name of the image in the blob store, once the queue has given one; empty: its id

    @property
    def image(self) -> str:
        """The name under which the blob store has the image."""
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
