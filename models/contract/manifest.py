"""The schema of `manifest.json`, in which a bundle describes itself.

`models.publishing` writes it once; `service.versions.bundle_store` and `models.evaluation.bundle` read it. The format
version is read first, so that the error for a newer bundle names the version instead of a confusing field.
"""

import re
from typing import Annotated, Any, Final, Literal, Self, overload

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from models.contract.fields import Finite, Name, Part, Positive, Sentence, Share
from models.contract.loss_definition import LossDefinition
from models.contract.reference import EmbeddingReference, LossReference
from models.contract.signals import Signal

FORMAT_VERSION: Final = 1

Reason = Literal["predicted_loss", "ood_score"]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
is_model_name = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}").fullmatch
Promise = Literal["flag_budget", "miss_rate", "joint_risk", "selective_risk"]


class ManifestError(ValueError):
    """The manifest cannot be used; the message says what is wrong and what to do."""


class Task(Part):
    """The prediction. Keypoints: `names` of k points, one unit. Vector: one unit for each value."""

    name: Name
    kind: Literal["keypoints", "vector"]
    names: tuple[Name, ...] = Field(min_length=1)
    units: tuple[Name, ...] = Field(min_length=1)
    skeleton: tuple[tuple[int, int], ...] = ()  # pairs of indices into names, for drawing

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "keypoints" and len(self.units) != 1:
            raise ValueError("keypoints have exactly one unit")
        if self.kind == "vector" and len(self.units) != len(self.names):
            raise ValueError("a vector has one unit for each name")
        if any(not 0 <= i < len(self.names) for limb in self.skeleton for i in limb):
            raise ValueError("the skeleton names a point that does not exist")
        return self

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        """Shape of one row of the ONNX output `prediction`: (k, 2) for keypoints, (k,) for a vector."""
        return (len(self.names), 2) if self.kind == "keypoints" else (len(self.names),)


class Preprocessing(Part):
    """How an image becomes the ONNX input. Scaling and normalisation are inside the graph."""

    height: int = Field(gt=0, le=4096)
    width: int = Field(gt=0, le=4096)
    channels: Literal[1, 3]
    resize: Literal["letterbox"] = "letterbox"
    fill: int = Field(default=114, ge=0, le=255)  # grey level of the letterbox borders

    @property
    def canvas_shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, self.channels)


class Loss(Part):
    name: Name
    unit: Name
    failure_level: Positive  # a true loss above it is a failure
    bound: Positive | None = None  # no true loss exceeds it; None: there is no such bound
    definition: LossDefinition | None = None  # how it is computed; None: only the task's code can


class OperatingPoint(Part):
    """Thresholds on the raw scores, and their guarantee. A value above its threshold flags the input.

    Guarantees for a new input x with true loss l, where `level` is the bound:
    flag_budget     P(flagged) <= level
    miss_rate       P(not flagged | l > failure level) <= level
    joint_risk      E[min(l, loss_bound) 1(not flagged)] <= level, in the unit of the loss
    selective_risk  E[min(l, loss_bound) | not flagged] <= level, in the unit of the loss
    The first three hold on average over calibration sets, the last for a share 1 - delta of them.
    """

    guarantee: Sentence
    kind: Promise
    level: Positive
    delta: Share | None = None
    loss_bound: Positive | None = None
    calibration_size: int = Field(gt=0)  # independent sources that the thresholds were computed from
    score_threshold: Finite
    ood_threshold: Finite

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        of_loss = self.kind in {"joint_risk", "selective_risk"}
        if not of_loss and self.level >= 1:
            raise ValueError(f"the level of a {self.kind} is a probability below 1")
        if of_loss and (self.loss_bound is None or self.level >= self.loss_bound):
            raise ValueError(f"a {self.kind} needs a loss_bound above its level")
        if (self.delta is not None) != (self.kind == "selective_risk"):
            raise ValueError("a selective_risk has a delta, and nothing else does")
        return self

    @overload
    def flags(self, score: float, ood_score: float) -> dict[Reason, bool]: ...
    @overload
    def flags(self, score: NDArray[np.float64], ood_score: NDArray[np.float64]) -> dict[Reason, NDArray[np.bool_]]: ...
    def flags(self, score: float | NDArray[np.float64], ood_score: float | NDArray[np.float64]) -> dict[Reason, Any]:
        """The verdict by reason; an input with any reason is lossy. Takes raw scores of one input, or arrays [n].

        Give double precision: numpy rounds a threshold to float32 to compare it with a float32 array.
        """
        return {"predicted_loss": score > self.score_threshold, "ood_score": ood_score > self.ood_threshold}


class OrderStatistics(Part):
    """A reference of `size` observations: their values at some (1-based) ranks."""

    size: int = Field(gt=0)
    ranks: tuple[int, ...] = Field(min_length=1)
    values: tuple[Finite, ...] = Field(min_length=1)
    jitter: Annotated[float, Field(ge=0, allow_inf_nan=False)] = (
        0.0  # width of the noise that was added: see `signals.jitter`
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if len(self.ranks) != len(self.values):
            raise ValueError("as many ranks as values are needed")
        if self.ranks[0] < 1 or self.ranks[-1] > self.size:
            raise ValueError("ranks lie between 1 and size")
        if any(a >= b for a, b in zip(self.ranks, self.ranks[1:], strict=False)):
            raise ValueError("ranks must increase strictly")
        if any(a > b for a, b in zip(self.values, self.values[1:], strict=False)):
            raise ValueError("values must not decrease")
        return self


class Provenance(Part):
    task: Name
    data_fingerprint: Name
    seed: int
    code_version: Name
    date: Name  # ISO 8601, UTC
    parent_version: str | None = None
    snapshot: str | None = None  # fingerprint of the labels that it learned from beside the task's data
    split_sizes: dict[str, int]


class Manifest(Part):
    format_version: Literal[1] = FORMAT_VERSION
    model: ModelName
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    task: Task
    preprocessing: Preprocessing
    loss: Loss
    embedding_size: int = Field(gt=0)
    keypoint_loss: bool  # whether the ONNX has the optional output `keypoint_loss`
    operating_points: dict[str, OperatingPoint] = Field(min_length=1)
    # Promises that the calibration data did not allow, and why.
    refused_operating_points: dict[str, Sentence]
    default_operating_point: str
    drift_reference: dict[Signal, OrderStatistics]  # other signals are not watched
    loss_reference: LossReference
    embedding_reference: EmbeddingReference | None  # None: the embeddings do not vary in any direction
    evaluation: dict[str, Finite]
    provenance: Provenance
    onnx_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.default_operating_point not in self.operating_points:
            raise ValueError("default_operating_point is not among operating_points")
        if set(self.operating_points) & set(self.refused_operating_points):
            raise ValueError("an operating point is either there or refused")
        if self.keypoint_loss and self.task.kind != "keypoints":
            raise ValueError("keypoint_loss needs a keypoints task")
        missing = {"score", "ood_score"} - set(self.drift_reference)
        if missing:
            raise ValueError(f"drift_reference lacks {', '.join(sorted(missing))}")
        reference = self.embedding_reference
        if reference is not None and reference.embedding_size != self.embedding_size:
            raise ValueError(f"embedding_reference is of {reference.embedding_size} numbers, not {self.embedding_size}")
        _check_definition(self.loss, self.task)
        return self

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every ONNX output with the shape of one row; the batch axis comes first in the graph."""
        shapes: dict[str, tuple[int, ...]] = {
            "prediction": self.task.prediction_shape,
            "score": (),
            "predicted_loss": (),
            "ood_score": (),
            "embedding": (self.embedding_size,),
        }
        if self.keypoint_loss:
            shapes["keypoint_loss"] = (len(self.task.names),)
        return shapes

    def to_json(self) -> bytes:
        """Indented JSON, with each long column of numbers of a reference on one line."""
        fields = self.model_dump(mode="json")
        for reference in fields["drift_reference"].values():
            reference |= {name: _on_one_line(reference[name]) for name in ("ranks", "values")}
        embeddings = fields["embedding_reference"]
        if embeddings is not None:
            embeddings["projection"] = [_on_one_line(row) for row in embeddings["projection"]]
            embeddings["offset"] = _on_one_line(embeddings["offset"])
        return orjson.dumps(fields, option=orjson.OPT_INDENT_2) + b"\n"


def parse_manifest(data: bytes) -> Manifest:
    """Manifest from the bytes of `manifest.json`.

    Raises ManifestError when the bytes are not JSON, of another format version, or do not fit.
    """
    try:
        fields = orjson.loads(data)
        format_version = fields["format_version"]
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise ManifestError("manifest.json is damaged: it is not JSON with a format_version") from error
    if format_version != FORMAT_VERSION:
        raise ManifestError(
            f"manifest.json has format version {format_version!r}, this program reads {FORMAT_VERSION}: "
            "upgrade losscast, or export the bundle again"
        )
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise ManifestError(f"manifest.json is damaged: {where}: {first['msg']}") from error


def _on_one_line(numbers: list[Any]) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(numbers))


def _check_definition(loss: Loss, task: Task) -> None:
    definition = loss.definition
    if definition is None:
        return
    if definition.kind != task.kind:
        raise ValueError(f"a loss of {definition.kind} is declared for a task of {task.kind}")
    if definition.kind == "keypoints" and definition.scale and definition.scale.points > len(task.names):
        raise ValueError("the scale of the loss names a point that does not exist")
