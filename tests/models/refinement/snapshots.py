"""Writes small snapshot folders, as `losscast snapshot` leaves them."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.contract.manifest import Task
from models.contract.snapshot import Lane, Row, Split, summarise


def png(canvas: NDArray[np.uint8]) -> bytes:
    """canvas: uint8 [h, w, 1 or 3] -> a PNG file with the same pixels."""
    file = io.BytesIO()
    Image.fromarray(canvas.squeeze(2) if canvas.shape[2] == 1 else canvas).save(file, "PNG")
    return file.getvalue()


def row_of(  # noqa: PLR0913, PLR0917 - the parts of a row that tests vary
    number: int,
    image: bytes,
    label: Sequence[Any],
    split: Split = "train",
    size: tuple[int, int] = (64, 64),
    probability: float = 0.01,
) -> Row:
    lane: Lane = "audit" if split in {"calibrate", "judge"} else "predicted_loss"
    return Row(
        sample_id=f"sample-{number:05d}",
        sha256=hashlib.sha256(image).hexdigest(),
        lane=lane,
        inclusion_probability=probability if lane == "audit" else None,
        label=list(label),
        annotator="ann",
        labelled_at=1000.0 + number,
        version="1",
        source=None,
        flagged_at=900.0 + number,
        predicted_loss=1.0,
        width=size[0],
        height=size[1],
        group=f"sample-{number:05d}",
        split=split,
    )


def write_folder(folder: Path, model: str, task: Task, rows: Sequence[Row], images: Sequence[bytes]) -> Path:
    """A finished snapshot of these rows, each with its image."""
    (folder / "images").mkdir(parents=True)
    for row, image in zip(rows, images, strict=True):
        (folder / "images" / row.sample_id).write_bytes(image)
    (folder / "rows.ndjson").write_bytes(b"".join(row.model_dump_json().encode() + b"\n" for row in rows))
    (folder / "left_out.ndjson").write_bytes(b"")
    snapshot = summarise(model, task, "2026-01-01T00:00:00+00:00", rows, 0)
    (folder / "snapshot.json").write_bytes(snapshot.model_dump_json(indent=2).encode())
    return folder
