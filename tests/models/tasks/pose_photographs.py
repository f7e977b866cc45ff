"""Makes a folder like that of the task `pose`: stick figures over random backgrounds, labels and tars."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.tasks.pose import JOINTS, SKELETON

COUNTS = {"train": 60, "calibration": 120, "test": 24}
WIDTH, HEIGHT = 90, 110
STANDING = np.array(
    [[36, 100], [38, 80], [40, 60], [52, 60], [54, 80], [56, 100], [24, 60], [28, 46], [36, 30], [56, 30], [64, 46],
     [68, 60], [46, 26], [46, 10]], np.float64,
)  # fmt: skip


def write_pose_folder(folder: Path, counts: dict[str, int] | None = None) -> Path:
    """Photographs of `counts` by split, in two tars, with labels. Every third image lacks some joints."""
    rng = np.random.default_rng(0)
    splits = [split for split, count in (counts or COUNTS).items() for _ in range(count)]
    entries, files = [], {}
    for number, split in enumerate(splits):
        joints = STANDING + rng.normal(0, 4, STANDING.shape) + rng.uniform(-8, 8, 2)
        annotated = np.ones(len(joints), int)
        annotated[rng.integers(0, 14, 5 if number % 3 == 0 else 0)] = 0
        name = f"im{number:05d}.jpg"
        files[name] = encode(draw(rng, joints))
        entries.append(entry(name, split, np.column_stack((joints.round(2), annotated)).tolist()))
    write_labels(folder, entries)
    names = list(files)
    write_tar(folder / "crops-1.tar", {name: files[name] for name in names[::2]})
    write_tar(folder / "crops-2.tar", {name: files[name] for name in names[1::2]})
    return folder


def entry(name: str, split: str, joints: list[list[float]]) -> dict[str, Any]:
    return {"image": name, "width": WIDTH, "height": HEIGHT, "joints": joints, "split": split}


def write_labels(folder: Path, entries: list[dict[str, Any]]) -> None:
    (folder / "labels.json").write_text(json.dumps({"joint_names": list(JOINTS), "images": entries}))


def read_entries(folder: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((folder / "labels.json").read_text())["images"]
    return entries


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"images/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def draw(rng: np.random.Generator, joints: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A figure in one colour over a background that differs in every photograph: uint8 [h, w, 3]."""
    blotches = rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    image = cv2.resize(blotches, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    for first, second in SKELETON:
        ends = [joints[end].round().astype(int).tolist() for end in (first, second)]
        cv2.line(image, ends[0], ends[1], (30, 200, 240), 4, cv2.LINE_AA)
    return image


def encode(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()
