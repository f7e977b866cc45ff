"""Writes a snapshot (`models.contract.snapshot`), page by page, in the order in which the labels came.

Everything is written into `<out>.part`, which becomes `<out>` once it is whole. A run that was cut off is repeated: the
label stream is read again from its start, and images that are there already are not fetched again. `previous`, an older
snapshot of the same model, gives images and keeps its samples in the splits that they had.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from models.contract.manifest import Preprocessing, Task
from models.contract.near_duplicates import prints
from models.contract.snapshot import (
    RECENT,
    LeftOut,
    RecentAudit,
    Row,
    Snapshot,
    SnapshotError,
    read_recent,
    read_rows,
    read_snapshot,
    summarise,
)
from models.contract.splits import Place, Splitter, Subject
from service.errors import InvalidLabel, ServiceError
from service.inference.decode import decode
from service.labelling.samples.label import read_values
from service.schemas.labelling import LabelLine, SampleReply

PRINT_PX = 96  # the longer side of the picture that a print is taken of
MAX_PIXELS = 100_000_000

AT_ONCE = 8  # images that are fetched at a time

Fetch = Callable[[LabelLine], bytes | str]  # the image of a label, or the reason why there is none


@dataclass(frozen=True, slots=True)
class Audits:
    """The audit lane beside its labels. fetch: the image of a sample, None if it is gone."""

    recent: Sequence[SampleReply] = ()  # without a label, the newest first
    fetch: Callable[[SampleReply], bytes | None] = lambda _: None
    rejected: int = 0  # samples that annotators rejected


NO_AUDITS = Audits()


def write_snapshot(  # noqa: PLR0913 - where to, of what, from where
    out: Path,
    model: str,
    task: Mapping[str, Any],
    *,
    pages: Iterable[Sequence[LabelLine]],
    fetch: Fetch,
    previous: Path | None = None,
    audits: Audits = NO_AUDITS,
) -> Snapshot:
    """Writes the labels of `pages` and their images to `out`. task: as in the model's manifest.

    Raises SnapshotError (`out` is there, `previous` is of another model, no label can be used), OSError, and the errors
    of `pages` and `fetch`.
    """
    folder = _Folder(out, model, Task.model_validate_json(orjson.dumps(task)), previous)

    def image(line: LabelLine) -> bytes | str:
        return folder.image(line) or fetch(line)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for lines in pages:
            folder.add(lines, list(pool.map(image, lines)))
        folder.add_recent(
            audits.recent, list(pool.map(lambda one: folder.image(one) or audits.fetch(one), audits.recent))
        )
    return folder.finish(audits.rejected)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A label whose image is there and can be read."""

    line: LabelLine
    label: list[Any]
    sha256: str
    looks: NDArray[np.float32]  # [d]


class _Folder:
    def __init__(self, out: Path, model: str, task: Task, previous: Path | None) -> None:
        if out.exists():
            raise SnapshotError(f"{out} exists, and a snapshot never changes: choose another folder")
        self._out, self._part = out, out.with_name(f"{out.name}.part")
        self._model, self._task = model, task
        self._splitter = Splitter(model)
        self._previous = previous
        self._before = _rows_of(previous, model, task) if previous else {}
        (self._part / "images").mkdir(parents=True, exist_ok=True)
        self._seen: set[str] = set()
        self._left_out = 0
        for name in ("rows.ndjson", "left_out.ndjson"):
            (self._part / name).write_bytes(b"")

    def add(self, lines: Sequence[LabelLine], images: Sequence[bytes | str]) -> None:
        """A page of labels, and of each its image or the reason why there is none."""
        new = [(line, image) for line, image in zip(lines, images, strict=True) if not self._is_known(line)]
        taken, left_out = [], []
        for line, image in new:
            try:
                taken.append(self._take(line, image))
            except (ServiceError, ValueError) as error:
                left_out.append(LeftOut(sample_id=line.sample_id, reason=" ".join(str(error).split())[:600]))
        rows = [_row(one, place) for one, place in zip(taken, self._places(taken), strict=True)]
        self._left_out += len(left_out)
        with (self._part / "rows.ndjson").open("ab") as file:
            _write_lines(file, rows)
        with (self._part / "left_out.ndjson").open("ab") as file:
            _write_lines(file, left_out)

    def add_recent(self, audits: Sequence[SampleReply], images: Sequence[bytes | None]) -> None:
        """Audits without a label, and the image of each. Those that are labelled by now, or gone, are left out."""
        recent = []
        for sample, image in zip(audits, images, strict=True):
            if image is None or sample.audit_probability is None or sample.sample_id in self._seen:
                continue
            self._keep(sample.sample_id, image)
            recent.append(
                RecentAudit(
                    sample_id=sample.sample_id,
                    sha256=hashlib.sha256(image).hexdigest(),
                    inclusion_probability=sample.audit_probability,
                    flagged_at=sample.flagged_at,
                )
            )
        with (self._part / RECENT).open("wb") as file:
            _write_lines(file, recent)

    def image(self, line: LabelLine | SampleReply) -> bytes | None:
        """The image of this sample where it need not be fetched."""
        folders = [self._part] if self._previous is None else [self._part, self._previous]
        for folder in folders:
            with suppress(FileNotFoundError):
                return (folder / "images" / line.sample_id).read_bytes()
        return None

    def finish(self, rejected_audits: int) -> Snapshot:
        """Counts the rows, signs them, and gives the folder its name."""
        rows = list(read_rows(self._part / "rows.ndjson"))
        if not rows:
            raise SnapshotError(f"model {self._model} has no label that can be used: label samples first")
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        snapshot = summarise(self._model, self._task, made_at, rows, self._left_out, rejected_audits)
        _write_whole(self._part / "snapshot.json", snapshot.model_dump_json(indent=2).encode() + b"\n")
        recent = {one.sample_id for one in read_recent(self._part)}
        self._remove_strangers({row.sample_id for row in rows} | recent)
        self._part.rename(self._out)
        return snapshot

    def _is_known(self, line: LabelLine) -> bool:
        """A sample that was labelled twice keeps its first label, as in the queue."""
        is_known = line.sample_id in self._seen
        self._seen.add(line.sample_id)
        return is_known

    def _take(self, line: LabelLine, image: bytes | str) -> _Taken:
        """Raises ServiceError or ValueError when the label or the image cannot be used."""
        if isinstance(image, str):
            raise ValueError(image)  # noqa: TRY004 - it is the reason why there is no image
        try:
            label = read_values(line.label.values, self._task)
        except InvalidLabel as error:
            raise ValueError(f"the label is of another task: {error}") from error
        looks = _looks(image)
        self._keep(line.sample_id, image)
        return _Taken(line, list(label), hashlib.sha256(image).hexdigest(), looks)

    def _keep(self, sample_id: str, image: bytes) -> None:
        path = self._part / "images" / sample_id
        if not path.exists():
            _write_whole(path, image)

    def _places(self, taken: Sequence[_Taken]) -> list[Place]:
        """Samples of the previous snapshot keep theirs."""
        kept = [one for one in taken if one.line.sample_id in self._before]
        new = [one for one in taken if one.line.sample_id not in self._before]
        places = {one.line.sample_id: self._before[one.line.sample_id] for one in kept}
        self._splitter.remember(_subjects(kept), list(places.values()), _stacked(kept))
        found = self._splitter.places(_subjects(new), _stacked(new))
        places |= {one.line.sample_id: place for one, place in zip(new, found, strict=True)}
        return [places[one.line.sample_id] for one in taken]

    def _remove_strangers(self, sample_ids: set[str]) -> None:
        """Images of samples that an earlier run fetched and that are erased by now."""
        for path in (self._part / "images").iterdir():
            if path.name not in sample_ids:
                path.unlink()


def _rows_of(folder: Path, model: str, task: Task) -> dict[str, Place]:
    snapshot, rows = read_snapshot(folder)
    if snapshot.model != model or snapshot.task != task:
        raise SnapshotError(f"{folder} is a snapshot of model {snapshot.model} or of another task: leave it out")
    return {row.sample_id: Place(row.group, row.split) for row in rows}


def _looks(image: bytes) -> NDArray[np.float32]:
    """The print of an image file, whatever its shape. Raises ServiceError."""
    spec = Preprocessing(height=PRINT_PX, width=PRINT_PX, channels=3)
    picture = decode(image, spec, MAX_PIXELS)
    (left, top), (right, bottom) = picture.placement.to_canvas(np.array([(0, 0), (picture.width, picture.height)]))
    content = picture.canvas[round(top) : round(bottom), round(left) : round(right)]
    (looks,) = prints(np.ascontiguousarray(content)[None])
    return np.asarray(looks, np.float32)


def _subjects(taken: Sequence[_Taken]) -> list[Subject]:
    return [Subject(one.line.sample_id, one.line.lane, one.line.source, one.line.flagged_at) for one in taken]


def _stacked(taken: Sequence[_Taken]) -> NDArray[np.float32]:
    return np.stack([one.looks for one in taken]) if taken else np.zeros((0, 0), np.float32)


def _row(taken: _Taken, place: Place) -> Row:
    line = taken.line
    return Row(
        sample_id=line.sample_id,
        sha256=taken.sha256,
        lane=line.lane,
        inclusion_probability=line.audit_probability,
        label=taken.label,
        annotator=line.annotator,
        labelled_at=line.labelled_at,
        version=line.version,
        source=line.source,
        flagged_at=line.flagged_at,
        predicted_loss=line.predicted_loss,
        width=line.width,
        height=line.height,
        group=place.group,
        split=place.split,
    )


def _write_lines(file: BinaryIO, parts: Sequence[Row] | Sequence[LeftOut] | Sequence[RecentAudit]) -> None:
    file.write(b"".join(part.model_dump_json().encode() + b"\n" for part in parts))


def _write_whole(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
