"""A folder that carries samples to annotators and labels back: an image and a JSON file for each sample.

The JSON has the prediction by name as a starting point, and an empty `label` for the annotator to fill in, in the same
form (null for a keypoint that cannot be placed). A file is written completely or not at all, and is never moved or
deleted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from service.schemas.labelling import LeasedSample, file_name


class FolderError(Exception):
    """The file does not come from `write`, or is damaged. The message is one line."""


@dataclass(frozen=True, slots=True)
class SampleFile:
    """The content of a JSON file of the folder."""

    sample_id: str
    model: str
    annotator: str
    token: str
    label: Any  # None until it is filled in


def write(folder: Path, sample: LeasedSample, image: bytes) -> Path:
    """Writes both files and returns the path of the JSON. A label that is already there stays. Raises OSError."""
    name = file_name(sample.sample_id, sample.content_type)
    path = folder / f"{sample.sample_id}.json"
    fields = {
        "sample_id": sample.sample_id,
        "model": sample.model,
        "version": sample.version,
        "image": name,
        "annotator": sample.annotator,
        "token": sample.token,
        "lease_expires_at": sample.lease_expires_at,
        "lane": sample.lane,
        "reasons": sample.reasons,
        "predicted_loss": sample.predicted_loss,
        "prediction": dict(zip(sample.prediction.names, sample.prediction.values, strict=True)),
        "label": read(path).label if path.exists() else None,
    }
    _replace(folder / name, image)
    _replace(path, orjson.dumps(fields, option=orjson.OPT_INDENT_2) + b"\n")
    return path


def read(path: Path) -> SampleFile:
    """Raises FolderError."""
    try:
        fields = orjson.loads(path.read_bytes())
        texts = [fields[name] for name in ("sample_id", "model", "annotator", "token")]
        label = fields["label"]
    except orjson.JSONDecodeError as error:
        raise FolderError(f"{path.name} is not JSON: {error}") from error
    except OSError as error:
        raise FolderError(f"{path.name} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, IndexError) as error:
        raise FolderError(f"{path.name} is not a file of `losscast queue lease --out`: {error} is missing") from error
    if not all(isinstance(text, str) for text in texts):
        raise FolderError(f"{path.name} is not a file of `losscast queue lease --out`")
    if label is not None and not isinstance(label, list | dict):
        raise FolderError(f"{path.name} has a label that is neither a list nor an object: write it like `prediction`")
    sample_id, model, annotator, token = texts
    return SampleFile(sample_id, model, annotator, token, label)


def files(folder: Path) -> Iterator[Path]:
    """The JSON files of the folder, by name."""
    yield from sorted(folder.glob("*.json"))


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
