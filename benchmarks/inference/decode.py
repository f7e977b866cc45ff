"""Measures what it saves and what it changes to decode a JPEG at a fraction of its size.

Run `python -m benchmarks.inference.decode --data DIR`.

It compares the service's decode with that of training, which is a full decode and the letterbox. It measures the CPU
time on synthetic photographs. Through a bundle, it compares canvas, prediction, predicted loss and verdict on two kinds
of JPEGs of the pose task's test split: photographs of `originals.tar`, and all crops of the split, enlarged fourfold.
The figures show only how far two decodes of an image are apart, not how good the model is. As a control, they also show
how much one more round of JPEG at the same quality changes. It writes decode.json.
"""

import io
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import orjson
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from models.contract.bundle import read_manifest, read_onnx
from models.contract.manifest import Manifest, Preprocessing
from models.contract.preprocess import Placement, letterbox
from service.inference.decode import decode
from service.inference.engine import Engine
from service.inference.outcome import Forecast

RESULTS = Path(__file__).parent / "results" / "decode.json"
CANVAS = Preprocessing(height=192, width=192, channels=3)
SIZES = ((640, 480, 20), (4000, 3000, 2))  # width, height, decodes in one measurement
ROUNDS = 9
MAX_PIXELS = 40_000_000
QUALITY, ENLARGED = 90, 4

Decoded = tuple[NDArray[np.uint8], Placement]
Reader = Callable[[bytes, Preprocessing], Decoded]


def main(
    data: Annotated[Path, typer.Option(help="Folder with labels.json, crops-*.tar and originals.tar.")],
    bundle: Annotated[Path, typer.Option(help="The bundle to use.")] = Path("bundles/pose/1"),
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULTS,
) -> None:
    """Measures for about five minutes and writes the results."""
    manifest = read_manifest(bundle)
    engine = Engine(read_onnx(bundle, manifest), manifest)
    crops = [_enlarged(crop) for crop in _crops(data)]
    result = {
        "cpu_ms": {f"{width}x{height}": _times(width, height, n) for width, height, n in SIZES},
        "originals": _differences(list(_files(data, "originals")), as_served, manifest, engine),
        f"crops enlarged {ENLARGED}x": _differences(crops, as_served, manifest, engine),
        "control": _differences(crops, as_saved_again, manifest, engine),
    }
    out.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
    typer.echo(out.read_text())


def as_trained(data: bytes, spec: Preprocessing) -> Decoded:
    """As `models.tasks.pose_data` reads a photograph."""
    return letterbox(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), spec)


def as_served(data: bytes, spec: Preprocessing) -> Decoded:
    picture = decode(data, spec, MAX_PIXELS)
    return picture.canvas, picture.placement


def as_saved_again(data: bytes, spec: Preprocessing) -> Decoded:
    """As trained, after one more round of JPEG, a change that people hardly see."""
    return as_trained(_jpeg(Image.open(io.BytesIO(data)).convert("RGB")), spec)


def _times(width: int, height: int, n: int) -> dict[str, float]:
    photograph = _jpeg(_photograph(width, height))
    measured: dict[str, list[float]] = {"full": [], "reduced": []}
    for _ in range(ROUNDS):  # in turn, so that both run on the same machine at the same load
        measured["full"].append(_cpu_ms(lambda: as_trained(photograph, CANVAS), n))
        measured["reduced"].append(_cpu_ms(lambda: as_served(photograph, CANVAS), n))
    best = {name: min(times) for name, times in measured.items()}
    return {**best, "ratio": best["full"] / best["reduced"]}


def _cpu_ms(work: Callable[[], object], n: int) -> float:
    started = time.process_time()
    for _ in range(n):
        work()
    return 1000 * (time.process_time() - started) / n


def _differences(images: Sequence[bytes], read: Reader, manifest: Manifest, engine: Engine) -> dict[str, Any]:
    """Quantiles over images of how far `read` is from the decode of training."""
    spec, point = manifest.preprocessing, manifest.operating_points[manifest.default_operating_point]
    pixels, keypoints, losses, flips = [], [], [], 0
    for data in track(images, "Comparing"):
        (trained, way), (served, way_served) = as_trained(data, spec), read(data, spec)
        before, after = [answer for answer in engine([trained, served]) if isinstance(answer, Forecast)]
        pixels.append(np.abs(trained.astype(float) - served).mean())
        moved = way.to_image(before.prediction) - way_served.to_image(after.prediction)
        keypoints.append(np.linalg.norm(moved * way.scale, axis=1).mean())
        losses.append(abs(before.predicted_loss - after.predicted_loss))
        flips += point.flags(before.score, before.ood_score) != point.flags(after.score, after.ood_score)
    return {
        "images": len(images),
        "pixel_levels": _quantiles(pixels),
        "keypoints_canvas_px": _quantiles(keypoints),
        "predicted_loss": _quantiles(losses),
        "verdicts_changed": flips,
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {name: float(np.quantile(values, q)) for name, q in (("median", 0.5), ("p95", 0.95), ("max", 1.0))}


def _crops(data: Path) -> Iterator[bytes]:
    labels = orjson.loads((data / "labels.json").read_bytes())["images"]
    wanted = {Path(label["image"]).name for label in labels if label["split"] == "test"}
    for name in ("crops-1", "crops-2"):
        yield from _files(data, name, wanted)


def _files(data: Path, archive: str, wanted: set[str] | None = None) -> Iterator[bytes]:
    with tarfile.open(data / f"{archive}.tar") as tar:
        for member in tar:
            if member.isfile() and (wanted is None or Path(member.name).name in wanted):
                file = tar.extractfile(member)
                yield file.read() if file else b""


def _enlarged(crop: bytes) -> bytes:
    image = Image.open(io.BytesIO(crop)).convert("RGB")
    return _jpeg(image.resize((image.width * ENLARGED, image.height * ENLARGED), Image.Resampling.BICUBIC))


def _photograph(width: int, height: int) -> Image.Image:
    """Noise in octaves, as rough as photographs are."""
    rng = np.random.default_rng(0)
    octaves = [
        cv2.resize(
            rng.normal(0, step**0.5, (max(height // step, 1), max(width // step, 1), 3)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        for step in (256, 64, 16, 4, 2)
    ]
    levels = np.sum(octaves, axis=0)
    return Image.fromarray((45 * levels / levels.std() + 120).clip(0, 255).astype(np.uint8))


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


if __name__ == "__main__":
    typer.run(main)
