import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.near_duplicates import prints, resemble
from tests.models.tasks.pose_photographs import STANDING, draw, encode

Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photographs() -> Images:
    rng = np.random.default_rng(0)
    return np.stack([draw(rng, STANDING) for _ in range(40)])


def compressed(image: Images) -> Images:
    decoded = cv2.imdecode(np.frombuffer(encode(image), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded.astype(np.uint8)


def test_a_photograph_resembles_itself_darker_compressed_resized_or_mirrored(photographs: Images) -> None:
    changed = [
        (photographs[0] * 0.6 + 20).astype(np.uint8),
        compressed(photographs[1]),
        cv2.resize(cv2.resize(photographs[2], (45, 55)), (90, 110)),
        photographs[3][:, ::-1],
    ]
    assert resemble(prints(np.stack(changed)), prints(photographs)).all()


def test_other_photographs_do_not_resemble_each_other(photographs: Images) -> None:
    assert not resemble(prints(photographs[:20]), prints(photographs[20:])).any()


def test_images_of_one_grey_resemble_nothing(photographs: Images) -> None:
    flat = np.full((2, 110, 90, 3), 128, np.uint8)
    assert not resemble(prints(flat), prints(np.concatenate((photographs, flat)))).any()


def test_nothing_resembles_an_empty_set(photographs: Images) -> None:
    assert not resemble(prints(photographs), prints(photographs)[:0]).any()
