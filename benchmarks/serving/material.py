"""The models that are served and the images that are posted: bundles, each in a store of its own, and its images.

`tiny` is the digits model that ships, with canvases of its test split as PNG files; `keypoints` is generated (see
`benchmarks.serving.keypoints`) and gets JPEG files of 640x480. Thresholds are set so that `FLAGGED` of the images
are lossy. `bare` is that network without the forecast, with the same images: the difference is the cost of detection.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.keypoints import EMBEDDING_SIZE, SPEC, keypoint_onnx
from benchmarks.serving.load import read_images
from models.calibration.references import order_statistics, references
from models.contract.bundle import publish, read_manifest, read_onnx
from models.contract.index import ModelIndex, read_index, write_index
from models.contract.manifest import Loss, Manifest, OperatingPoint, Preprocessing, Provenance, Task
from models.contract.reference import LossReference
from models.publishing.export import run_onnx
from models.tasks.corruption import corrupt
from models.tasks.digits import Digits
from models.tasks.pose import JOINTS, SKELETON
from service.inference.decode import decode

ROOT = Path(__file__).resolve().parents[2]
FLAGGED = 0.05
IMAGES = 240  # of each kind unless told otherwise; the load generator makes every file that it sends distinct
SPOILED = 5  # one in so many digits is inverted
HEIGHT, WIDTH = 480, 640
OCTAVES = (4, 8, 16, 32, 64, 128)  # cells of noise along the width
FALL = 0.8  # of the amplitude with the frequency, as an exponent; 1 is that of photographs
GRAIN = 4.0  # grey levels
QUALITY = 90
NEVER = 1e30  # a threshold that no score exceeds
CHUNK = 60


@dataclass(frozen=True, slots=True)
class Material:
    """A model's bundle in the store, the folder of its images, and the provider that computes it."""

    store: Path
    model: str
    images: Path
    provider: str = "cpu"

    @property
    def bundle(self) -> Path:
        return self.store / self.model / "1"


def prepare(folder: Path, names: Sequence[str], images: int = IMAGES) -> dict[str, Material]:
    """Material by name, made in `folder` unless it is there: `tiny` in a second, `keypoints` and `bare` in some 20.

    images: of each kind.
    """
    tiny = Material(folder / "tiny", "digits", folder / "digits")
    keypoints = Material(folder / "keypoints", "keypoints", folder / "photographs")
    bare = Material(folder / "bare", "bare", folder / "photographs")
    if "tiny" in names and not tiny.bundle.exists():
        _make_tiny(tiny, images)
    if "keypoints" in names and not bare.bundle.exists():
        _make_keypoints(keypoints, bare, images)
    return {"tiny": tiny, "keypoints": keypoints, "bare": bare}


def _make_tiny(tiny: Material, count: int) -> None:
    shipped = ROOT / "bundles" / "digits"
    manifest = read_manifest(shipped / str(read_index(shipped).live))
    onnx = read_onnx(shipped / manifest.version, manifest)
    digits = _digits(count)
    _write(tiny.images, [cv2.imencode(".png", one)[1].tobytes() for one in digits], "png")
    _publish(tiny, manifest, onnx, digits, (manifest.preprocessing.width, manifest.preprocessing.height))


def _make_keypoints(keypoints: Material, bare: Material, count: int) -> None:
    _write(keypoints.images, [_photograph(seed) for seed in range(count)], "jpg")
    canvases = np.stack([decode(one, SPEC, HEIGHT * WIDTH).canvas for one in read_images(keypoints.images)])
    with_forecast, without = keypoint_onnx(canvases)
    _publish(keypoints, _manifest("keypoints", keypoint_loss=True), with_forecast, canvases, (WIDTH, HEIGHT))
    _publish(bare, _manifest("bare", keypoint_loss=False), without, canvases, (WIDTH, HEIGHT))


def _write(folder: Path, files: Sequence[bytes], suffix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(files):
        (folder / f"{number:04}.{suffix}").write_bytes(content)


def _digits(count: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    images = Digits().examples("test", seed=1).images[:count]
    spoiled = [corrupt(one, rng, "inversion", 1.0) if n % SPOILED == 0 else one for n, one in enumerate(images)]
    return np.stack(spoiled)


def _photograph(seed: int) -> bytes:
    """A JPEG with about as much detail at every scale, and as many bytes, as a photograph."""
    rng = np.random.default_rng(seed)
    image = np.zeros((HEIGHT, WIDTH, 3))
    for cells in OCTAVES:
        noise = rng.normal(0, 1, (cells * HEIGHT // WIDTH + 1, cells, 3))
        together = 0.7 * noise.mean(axis=2, keepdims=True) + 0.3 * noise
        image += cv2.resize(together, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) / cells**FALL
    image = 128 + 55 * (image - image.mean()) / image.std() + rng.normal(0, GRAIN, image.shape)
    pixels = image.clip(0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _publish(
    material: Material, manifest: Manifest, onnx: bytes, canvases: NDArray[np.uint8], size: tuple[int, int]
) -> None:
    """As version 1 of the material's model, with one operating point that flags `FLAGGED` of the canvases.

    size: width and height of the images that it is fed. Drift compares against references made from these canvases.
    """
    parts = [run_onnx(onnx, canvases[start : start + CHUNK]) for start in range(0, len(canvases), CHUNK)]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    flagged = material.model != "bare"
    point = OperatingPoint(
        guarantee=f"{FLAGGED:.0%} of the benchmark's images are flagged." if flagged else "Nothing is flagged.",
        kind="flag_budget",
        level=FLAGGED,
        calibration_size=len(canvases),
        score_threshold=float(np.quantile(outputs["score"].astype(np.float64), 1 - FLAGGED)) if flagged else NEVER,
        ood_threshold=NEVER,
    )
    changes = {
        "version": "1",
        "operating_points": {"budget": point},
        "refused_operating_points": {},
        "onnx_sha256": hashlib.sha256(onnx).hexdigest(),
    }
    described = manifest.model_copy(update=changes)
    if flagged:
        described = references(outputs, canvases, np.tile(size, (len(canvases), 1))).put_into(described)
    card = b"# Made for the serving benchmark\n"
    publish(material.store, described, {"model.onnx": onnx, "model_card.md": card})
    write_index(material.store / material.model, ModelIndex(live=1))


def _manifest(model: str, *, keypoint_loss: bool) -> Manifest:
    """The manifest, without the fields that `_publish` fills in."""
    placeholder = order_statistics([0.0, 1.0], 1)
    nothing = OperatingPoint(
        guarantee="None.", kind="flag_budget", level=FLAGGED, calibration_size=1, score_threshold=0, ood_threshold=0
    )
    return Manifest(
        model=model,
        version="1",
        task=Task(name="keypoints", kind="keypoints", names=JOINTS, units=("px",), skeleton=SKELETON),
        preprocessing=Preprocessing(**SPEC.model_dump()),
        loss=Loss(name="none: the weights are random", unit="px", failure_level=0.5),
        embedding_size=EMBEDDING_SIZE,
        keypoint_loss=keypoint_loss,
        operating_points={"budget": nothing},
        refused_operating_points={},
        default_operating_point="budget",
        drift_reference={"score": placeholder, "ood_score": placeholder},
        loss_reference=LossReference(mean_predicted_loss=0.0, sd=0.0, n=1),
        embedding_reference=None,
        evaluation={},
        provenance=Provenance(
            task="keypoints", data_fingerprint="none", seed=0, code_version="0", date="2026-01-01", split_sizes={}
        ),
        onnx_sha256="0" * 64,
    )
