"""A flagged input on its way to an annotator: what the journal keeps and the queue hands out.

The image itself travels beside it, through the journal into the blob store, under the same id.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import orjson

Lane = Literal["flagged"]


@dataclass(frozen=True, slots=True)
class Sample:
    id: str  # 32 hex digits, unique per model and content
    model: str
    version: str
    content_type: str
    reasons: tuple[str, ...]  # why the verdict is lossy
    value: float  # what a label would be worth: surprise of the score, in nats; the queue's order
    predicted_loss: float  # in the task's loss unit
    score: float  # raw, higher is worse
    ood_score: float
    prediction: Any  # as in the reply to the caller, JSON-able
    flagged_at: float  # unix seconds
    lane: Lane = "flagged"
    width: int | None = None  # of the image as posted, upright; None in samples of older versions
    height: int | None = None

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Inverse of to_json. Raises ValueError when the bytes are not a sample's."""
        try:
            fields = orjson.loads(data)
            return cls(**{**fields, "reasons": tuple(fields["reasons"])})
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"not a sample: {error}") from error


def sample_id(model: str, image: bytes) -> str:
    """32 hex digits of a SHA-256 over the model's name and the image file's bytes."""
    digest = hashlib.sha256(model.encode())
    digest.update(b"\0")
    digest.update(image)
    return digest.hexdigest()[:32]
