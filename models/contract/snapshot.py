"""A snapshot: labels and their images, frozen in a folder from which a model is refined.

`snapshot.json` names the model and its task, and has the number of rows in each split and a fingerprint. `rows.ndjson`
has one line for each sample, `left_out.ndjson` one for each label that could not be taken, `recent.ndjson` one for each
recent sample of the audit lane without a label, and `images/<sample id>` is an image as it was posted. `losscast
snapshot` writes the folder, `models.refinement` reads it. A folder without `snapshot.json` is not finished.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field, ValidationError

from models.contract.fields import Finite, Name, Part, Sentence
from models.contract.manifest import ModelName, Task

FORMAT_VERSION: Final = 1
RECENT: Final = "recent.ndjson"

Lane = Literal["predicted_loss", "ood_score", "audit"]
Split = Literal["train", "watch", "calibrate", "judge", "unused"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class SnapshotError(ValueError):
    """The folder is not a snapshot that can be used; the message says what is wrong and what to do."""


class Row(Part):
    """One labelled sample."""

    sample_id: Name
    sha256: Sha256  # of the image file
    lane: Lane
    # The probability with which the audit lane drew the image; null in the flagged lanes, which are no random sample.
    inclusion_probability: Annotated[float, Field(gt=0, le=1)] | None
    label: list[Any]  # keypoints: [x, y] in pixels of the image as posted, or null; vector: numbers
    annotator: Name
    labelled_at: Finite  # unix seconds
    version: Name  # of the model that flagged it
    source: str | None  # the camera or client that sent it
    flagged_at: Finite  # unix seconds
    predicted_loss: Finite  # in the task's unit, by that version
    width: int = Field(gt=0)  # of the image as posted, upright, in pixels
    height: int = Field(gt=0)
    group: Name  # samples of one group share their split within a lane
    split: Split


class RecentAudit(Part):
    """A sample of the audit lane that had no label yet: a fair draw from recent traffic, where no label is needed."""

    sample_id: Name
    sha256: Sha256
    inclusion_probability: Annotated[float, Field(gt=0, le=1)]
    flagged_at: Finite  # unix seconds


class LeftOut(Part):
    """A label that is not in the snapshot."""

    sample_id: str
    reason: Sentence


class Snapshot(Part):
    """`snapshot.json`."""

    format_version: Literal[1] = FORMAT_VERSION
    model: ModelName
    task: Task
    made_at: Name  # ISO 8601, UTC
    splits: dict[Split, Count]  # rows of each
    left_out: Count
    fingerprint: Sha256  # of the rows; the same for the same labels, whenever and wherever they were collected
    rejected_audits: Count = 0  # samples of the audit lane that annotators rejected, so that they have no label

    @property
    def rows(self) -> int:
        return sum(self.splits.values())


def fingerprint(rows: Iterable[Row]) -> str:
    """SHA-256 of what is learned and judged from, in any order of rows."""
    names = ("sample_id", "sha256", "lane", "inclusion_probability", "label", "split")
    digest = hashlib.sha256()
    for line in sorted(orjson.dumps([getattr(row, name) for name in names]) for row in rows):
        digest.update(line + b"\n")
    return digest.hexdigest()


def summarise(  # noqa: PLR0913, PLR0917 - the parts of a snapshot
    model: str, task: Task, made_at: str, rows: Iterable[Row], left_out: int, rejected_audits: int = 0
) -> Snapshot:
    """`snapshot.json` of these rows."""
    listed = list(rows)
    splits = dict(Counter(row.split for row in listed))
    return Snapshot(
        model=model,
        task=task,
        made_at=made_at,
        splits=splits,
        left_out=left_out,
        fingerprint=fingerprint(listed),
        rejected_audits=rejected_audits,
    )


def read_snapshot(folder: Path) -> tuple[Snapshot, list[Row]]:
    """The snapshot in `folder` and its rows, checked against the fingerprint. Raises SnapshotError."""
    try:
        snapshot = Snapshot.model_validate_json((folder / "snapshot.json").read_bytes())
        rows = list(read_rows(folder / "rows.ndjson"))
    except FileNotFoundError as error:
        raise SnapshotError(
            f"{folder} is not a finished snapshot: run `losscast snapshot` again to finish it"
        ) from error
    except OSError as error:
        raise SnapshotError(f"{folder} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise SnapshotError(f"{folder} is damaged: {error.errors()[0]['msg']}; make the snapshot again") from error
    if fingerprint(rows) != snapshot.fingerprint:
        raise SnapshotError(f"{folder} is damaged: its rows do not have its fingerprint; make the snapshot again")
    return snapshot, rows


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, one by one. Raises OSError and pydantic's ValidationError."""
    with path.open("rb") as file:
        for line in file:
            yield Row.model_validate_json(line)


def read_recent(folder: Path) -> list[RecentAudit]:
    """The recent audits without a label, the newest first; none where the file is missing. Raises SnapshotError."""
    try:
        with (folder / RECENT).open("rb") as file:
            return [RecentAudit.model_validate_json(line) for line in file]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SnapshotError(f"{folder / RECENT} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise SnapshotError(f"{folder / RECENT} is damaged: {error.errors()[0]['msg']}") from error


def image_path(folder: Path, row: Row | RecentAudit) -> Path:
    """Where the image of a row lies, as it was posted."""
    return folder / "images" / row.sample_id
