"""A stream of images and its snapshot, labelled by the truth: what a service and perfect annotators leave.

images that nothing has learned from -> the live version flags some, chance draws others for the audit lane -> the truth
labels them -> a snapshot folder. `Stream` is one of corrupted digits; photographs are in `withheld_pose`.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.contract.bundle import read_manifest, read_onnx
from models.contract.snapshot import Lane, Row, summarise
from models.contract.splits import split_of
from models.publishing.export import run_onnx
from models.tasks.corruption import Corruption, corrupt
from models.tasks.digits import Digits
from models.tasks.protocol import Examples

SHARE = 0.5  # of the stream that the corruption hits
STREAM_VIEW = 50_000  # views of glyphs that no training draws
TEST_VIEW = 90_000


@dataclass(frozen=True, slots=True)
class Stream:
    """What cameras send from now on."""

    task: Digits
    kind: Corruption = "inversion"
    strength: float = 0.6
    share: float = SHARE
    seed: int = 0

    def draw(self, round_: int) -> Examples:
        """A canvas of each glyph of the trunk, head and calibration splits; other canvases in each round."""
        parts = [
            self.task.examples(split, 1, self.seed, STREAM_VIEW + round_) for split in ("trunk", "head", "calibration")
        ]
        return self.corrupted(
            Examples(
                *(
                    np.concatenate([getattr(part, name) for part in parts])
                    for name in ("images", "targets", "source", "stratum")
                )
            ),
            round_,
        )

    def test(self) -> Examples:
        """Corrupted canvases of the glyphs of the test split."""
        return self.corrupted(self.task.examples("test", 4, self.seed, TEST_VIEW), -1)

    def corrupted(self, examples: Examples, round_: int) -> Examples:
        """The same with a share of the images corrupted."""
        rng = np.random.default_rng((self.seed, round_ + 1))
        hit = rng.random(len(examples)) < self.share
        images = [
            corrupt(image, rng, self.kind, self.strength) if there else image
            for image, there in zip(examples.images, hit, strict=True)
        ]
        return Examples(np.stack(images), examples.targets, examples.source, examples.stratum)


def label_stream(  # noqa: PLR0913, PLR0917 - who sees what, and how much of it is labelled
    seen: Examples, version: Path, round_: int, budget: int, audits: int, operating_point: str | None = None
) -> tuple[list[Row], list[bytes]]:
    """What annotators label of a round: `audits` drawn by chance, and `budget` of what the version flags beside them.

    operating_point: None: the default one of the version.
    """
    manifest = read_manifest(version)
    outputs = run_onnx(read_onnx(version, manifest), seen.images)
    point = manifest.operating_points[operating_point or manifest.default_operating_point]
    flags = point.flags(outputs["score"].astype(np.float64), outputs["ood_score"].astype(np.float64))
    rng = np.random.default_rng(round_)
    audited = rng.permutation(len(seen))[:audits]
    flagged = np.flatnonzero(flags["predicted_loss"] | flags["ood_score"])
    flagged = rng.permutation(flagged[~np.isin(flagged, audited)])[:budget]
    chance = audits / len(seen)
    rows, images = [], []
    for lane, places in (("audit", audited), ("flagged", flagged)):
        for place in places.tolist():
            why: Lane = (
                "audit" if lane == "audit" else "predicted_loss" if flags["predicted_loss"][place] else "ood_score"
            )
            image = _png(seen.images[place])
            rows.append(
                _row(manifest.model, f"r{round_}-{place:05d}", image, seen.targets[place], why, chance, version.name)
            )
            images.append(image)
    return rows, images


def write_snapshot(folder: Path, version: Path, rows: Sequence[Row], images: Sequence[bytes]) -> Path:
    """A finished snapshot of these rows for the model of `version`."""
    manifest = read_manifest(version)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row, image in zip(rows, images, strict=True):
        (folder / "images" / row.sample_id).write_bytes(image)
    (folder / "rows.ndjson").write_bytes(b"".join(row.model_dump_json().encode() + b"\n" for row in rows))
    (folder / "left_out.ndjson").write_bytes(b"")
    snapshot = summarise(manifest.model, manifest.task, datetime.now(UTC).isoformat(timespec="seconds"), rows, 0)
    (folder / "snapshot.json").write_bytes(snapshot.model_dump_json(indent=2).encode() + b"\n")
    return folder


def _row(  # noqa: PLR0913, PLR0917 - the parts of a row
    model: str, sample_id: str, image: bytes, target: NDArray[np.float32], lane: Lane, chance: float, version: str
) -> Row:
    with Image.open(io.BytesIO(image)) as file:
        width, height = file.size
    return Row(
        sample_id=sample_id,
        sha256=hashlib.sha256(image).hexdigest(),
        lane=lane,
        inclusion_probability=chance if lane == "audit" else None,
        label=[None if np.isnan(one).any() else one.tolist() for one in target.astype(float)],
        annotator="oracle",
        labelled_at=0.0,
        version=version,
        source=None,
        flagged_at=0.0,
        predicted_loss=0.0,
        width=width,
        height=height,
        group=sample_id,
        split=split_of(model, lane, sample_id),
    )


def _png(canvas: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(canvas.squeeze(2) if canvas.shape[2] == 1 else canvas).save(file, "PNG")
    return file.getvalue()
