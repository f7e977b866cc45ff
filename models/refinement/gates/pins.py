"""The gate of the user's own golden images: on each, the prediction must stay where the user put it.

The folder has `pins.json`, {"pins": [{"image": "door.jpg", "expected": [[12, 30], null], "tolerance": 5}]}, and the
images. Keypoints are in pixels of the image as it is, null where anything goes; values of a vector are in their units.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, ValidationError

from models.contract.bundle import read_manifest, read_onnx
from models.contract.fields import Finite, Name, Part, Positive
from models.contract.gate_report import GateResult
from models.contract.image_file import FORMATS, read_pixels
from models.contract.manifest import Manifest
from models.contract.preprocess import place
from models.contract.runtime import open_session
from models.refinement.gates.answers import not_asked
from models.refinement.gates.material import Material

GATE: Final = "pins"
FILE: Final = "pins.json"

Value = Finite | int
Point = tuple[Value, Value] | None


class PinsError(ValueError):
    """The folder of golden images cannot be used; the message says what is wrong and what to do."""


class Pin(Part, strict=False):
    image: Name  # a file in the folder
    expected: list[Point] | list[Value] = Field(min_length=1)
    tolerance: Positive  # distance of each point, or difference of each value


class Pins(Part, strict=False):
    pins: list[Pin] = Field(min_length=1)


def read_pins(folder: Path) -> Pins:
    """Raises PinsError."""
    path = folder / FILE
    try:
        return Pins.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PinsError(f"{path} cannot be read ({error.strerror}): write it, or leave the pins out") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "pins"
        raise PinsError(f"{path} is not as it should be at {where}: {first['msg']}") from error


def pins(material: Material) -> GateResult:
    """Raises PinsError for a folder that cannot be used."""
    folder = material.inputs.pins
    if folder is None:
        return not_asked(GATE, "There are no golden images.")
    manifest = read_manifest(material.inputs.candidate)
    session = open_session(read_onnx(material.inputs.candidate, manifest))
    golden = read_pins(folder).pins
    missed = [f"{pin.image} by {over:.3g}" for pin in golden if (over := _distance(folder, pin, manifest, session)) > 0]
    if not missed:
        return GateResult(
            gate=GATE, outcome="passed", sentence=f"All {len(golden)} golden images are kept.", labels=len(golden)
        )
    sentence = f"{len(missed)} of {len(golden)} golden images are beyond their tolerance: {', '.join(missed)}"
    return GateResult(gate=GATE, outcome="failed", sentence=sentence[:590], labels=len(golden))


def _distance(folder: Path, pin: Pin, manifest: Manifest, session: Any) -> float:
    """How far the prediction lies beyond the tolerance, 0 or below if within."""
    expected = _expected(folder, pin, manifest)
    path = folder / pin.image
    try:
        with Image.open(path, formats=FORMATS) as file:
            pixels = read_pixels(file, manifest.preprocessing)
    except Exception as error:  # damaged bytes make decoders raise errors of every kind
        raise PinsError(f"{path} cannot be read as an image: {error}") from error
    prediction = session.run(["prediction"], {"image": pixels.on_canvas(manifest.preprocessing)[0][None]})[0][0]
    if manifest.task.kind == "keypoints":
        prediction = place(pixels.width, pixels.height, manifest.preprocessing).to_image(prediction)
        distances = np.linalg.norm(prediction - expected, axis=-1)
        return float(np.nanmax(distances, initial=0)) - pin.tolerance
    return float(np.abs(prediction - expected).max()) - pin.tolerance


def _expected(folder: Path, pin: Pin, manifest: Manifest) -> NDArray[np.float64]:
    points = manifest.task.kind == "keypoints"
    try:
        values = np.array([[np.nan] * 2 if points and one is None else one for one in pin.expected], np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != manifest.task.prediction_shape:
        raise PinsError(
            f"{folder / FILE}: {pin.image} expects other values than {list(manifest.task.prediction_shape)} numbers: "
            f"{', '.join(manifest.task.names)}"
        )
    return values
