import json
from pathlib import Path

import pytest

from service.formats.folder import FolderError, files, read, write
from service.schemas.labelling import LeasedSample
from service.schemas.predictions import PredictionFields


def leased(token: str = "t") -> LeasedSample:  # noqa: S107 - a lease token
    return LeasedSample(
        sample_id="5" * 32,
        model="gaze",
        version="1",
        content_type="image/webp",
        lane="audit",
        reasons=[],
        source=None,
        audit_probability=0.01,
        value=1.0,
        predicted_loss=0.5,
        score=0.5,
        ood_score=0.5,
        prediction=PredictionFields(kind="vector", names=["yaw", "pitch"], values=[0.1, 0.2]),
        flagged_at=0.0,
        width=4,
        height=3,
        image="/v1/samples/5/image",
        annotator="ada",
        token=token,
        lease_expires_at=1.0,
    )


def test_a_sample_is_an_image_with_its_extension_and_a_json_with_the_prediction_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, leased(), b"image")
    fields = json.loads(path.read_text())
    assert (tmp_path / fields["image"]).read_bytes() == b"image"
    assert fields["image"] == f"{'5' * 32}.webp"
    assert fields["prediction"] == {"yaw": 0.1, "pitch": 0.2}
    assert list(files(tmp_path)) == [path]
    assert read(path).label is None


def test_a_new_lease_renews_the_token_and_keeps_the_label(tmp_path: Path) -> None:
    path = write(tmp_path, leased(), b"image")
    path.write_text(path.read_text().replace('"label": null', '"label": [1, 2]'))
    write(tmp_path, leased("new"), b"image")
    assert (read(path).token, read(path).label) == ("new", [1, 2])


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path, leased(), b"image")
    path.write_text("{")
    with pytest.raises(FolderError, match="is not JSON"):
        write(tmp_path, leased(), b"image")
    assert path.read_text() == "{"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[]", "is not a file of"),
        ("3", "is not a file of"),
        ('{"sample_id": "x"}', "'model' is missing"),
        ('{"sample_id": 3, "model": "m", "annotator": "a", "token": "t", "label": null}', "is not a file of"),
        (
            '{"sample_id": "x", "model": "m", "annotator": "a", "token": "t", "label": "no"}',
            "write it like `prediction`",
        ),
    ],
)
def test_the_error_of_a_bad_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(FolderError) as refused:
        read(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"x\.json cannot be read: No such file"):
        read(tmp_path / "x.json")
