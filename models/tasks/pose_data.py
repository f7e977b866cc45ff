"""Reads a folder of pose photographs: `labels.json` beside `crops-*.tar`, onto canvases in memory.

Nothing is unpacked and nothing is written. Unusable data are refused before any training begins, in one line that names
the image.
"""

import hashlib
import json
import math
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.contract import manifest
from models.contract.preprocess import letterbox
from models.tasks.protocol import FAR_OUT

FILE_SPLITS = ("train", "calibration", "test")
OUTSIDE = 0.1  # a point this far beyond the frame, in longer sides, says nothing about the photograph


@dataclass(frozen=True, slots=True)
class Photographs:
    """n photographs on canvases, in the order of `labels.json`, without those that have no joint."""

    names: tuple[str, ...]  # of the joints
    files: tuple[str, ...]  # [n]
    splits: NDArray[np.str_]  # [n], of `FILE_SPLITS`
    images: NDArray[np.uint8]  # [n, height, width, 3], RGB
    joints: NDArray[np.float32]  # [n, k, 2] in canvas pixels, NaN where not annotated
    sizes: NDArray[np.int64]  # [n, 2] width and height before the letterbox
    without_joints: int  # images that were left out because none of their joints is annotated
    outside: int  # annotations that were left out because they lie well outside the frame
    digest: str  # SHA-256 of the labels and of every file in the tars that they name


@dataclass(frozen=True, slots=True)
class _Label:
    file: str
    split: str
    joints: NDArray[np.float64]  # [k, 2] in image pixels, NaN where not annotated
    size: tuple[int, int]  # width, height
    outside: int


def read_photographs(folder: Path, spec: manifest.Preprocessing) -> Photographs:
    """Every annotated photograph of `folder`, letterboxed by `spec`.

    Raises FileNotFoundError without labels or crops, ValueError for labels that cannot be used and for
    images that are missing, damaged or of another size than their label says.
    """
    names, labels, digest = _read_labels(folder)
    usable = [label for label in labels if not np.isnan(label.joints).all()]
    if not usable:
        raise ValueError(f"none of the {len(labels)} images in {folder / 'labels.json'} has an annotated joint")
    images = np.empty((len(usable), *spec.canvas_shape), np.uint8)
    joints = np.empty((len(usable), len(names), 2), np.float32)
    for row, (label, data) in enumerate(zip(usable, _files(folder, usable), strict=True)):
        digest.update(data)
        images[row], placement = letterbox(_decode(label, data), spec)
        joints[row] = placement.to_canvas(label.joints)
    return Photographs(
        names=names,
        files=tuple(label.file for label in usable),
        splits=np.array([label.split for label in usable]),
        images=images,
        joints=joints,
        sizes=np.array([label.size for label in usable], np.int64),
        without_joints=len(labels) - len(usable),
        outside=sum(label.outside for label in labels),
        digest=digest.hexdigest(),
    )


def _read_labels(folder: Path) -> tuple[tuple[str, ...], list[_Label], Any]:
    path = folder / "labels.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no labels.json: --data names the folder with labels.json and crops-*.tar"
        )
    data = path.read_bytes()
    try:
        parsed = json.loads(data)
        names = tuple(str(name) for name in parsed["joint_names"])
        labels = [_label(entry, len(names)) for entry in parsed["images"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as labels: {type(error).__name__}: {error}") from error
    if len({label.file for label in labels}) < len(labels):
        raise ValueError(f"{path} names an image twice")
    return names, labels, hashlib.sha256(data)


def _label(entry: dict[str, Any], keypoints: int) -> _Label:
    file, split, size = str(entry["image"]), entry["split"], (entry["width"], entry["height"])
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(
            f"{file} has a width and a height of {size[0]!r} and {size[1]!r}, not two whole numbers above 0"
        )
    if split not in FILE_SPLITS:
        raise ValueError(f"{file} is in split {split!r}, which is none of {', '.join(FILE_SPLITS)}")
    rows = entry["joints"]
    if len(rows) != keypoints or any(len(row) != 3 for row in rows):  # noqa: PLR2004 - x, y, annotated
        raise ValueError(f"{file} needs {keypoints} joints of x, y and annotated")
    try:
        table = np.array(rows, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} has joints that are not numbers") from error
    if not np.isin(table[:, 2], (0, 1)).all():
        raise ValueError(f"{file} has a joint whose third value is neither 0 nor 1")
    joints = np.where(table[:, 2:] == 1, table[:, :2], np.nan)
    beyond = _beyond_frame(file, joints, table[:, 2] == 1, size)
    joints[beyond > OUTSIDE] = np.nan
    return _Label(file, split, joints, size, int((beyond > OUTSIDE).sum()))


def _beyond_frame(
    file: str, joints: NDArray[np.float64], annotated: NDArray[np.bool_], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Distance of each joint from the frame, in longer sides: [k], 0 inside and where not annotated."""
    if not np.isfinite(joints[annotated]).all():
        raise ValueError(f"{file} has an annotated joint without a position")
    beyond = np.nan_to_num(np.maximum(-joints, joints - size).max(axis=1) / max(size), nan=0).clip(min=0)
    if (beyond > FAR_OUT).any():
        worst = joints[beyond.argmax()]
        raise ValueError(
            f"{file} has a joint at ({worst[0]:g}, {worst[1]:g}), out of range of its {size[0]}x{size[1]} pixels"
        )
    return np.asarray(beyond, np.float64)


def _files(folder: Path, labels: Sequence[_Label]) -> Iterator[bytes]:
    """The bytes of each label's file, in order."""
    tars = sorted(folder.glob("crops-*.tar"))
    if not tars:
        raise FileNotFoundError(f"{folder} has no crops-*.tar")
    found: dict[str, bytes] = {}
    for path in tars:
        try:
            with tarfile.open(path) as tar:
                found |= {Path(member.name).name: _content(tar, member) for member in tar if member.isfile()}
        except tarfile.TarError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    for label in labels:
        if label.file not in found:
            raise FileNotFoundError(
                f"{label.file} is in labels.json but in none of {', '.join(path.name for path in tars)}: "
                "a tar is missing or incomplete"
            )
    return (found[label.file] for label in labels)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    return stream.read() if stream else b""


def _decode(label: _Label, data: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise ValueError(f"{label.file} cannot be decoded")
    if image.shape[1::-1] != label.size:
        raise ValueError(f"{label.file} has {math.prod(image.shape[:2])} pixels in another shape than its label says")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
