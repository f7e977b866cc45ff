import numpy as np
import pytest
from pydantic import ValidationError

from models.contract.reference import EmbeddingReference


def test_embeddings_are_projected_and_centred_and_what_is_not_finite_stays_so() -> None:
    reference = EmbeddingReference(size=9, projection=((1.0, 0.0, 2.0), (0.0, -1.0, 0.0)), offset=(1.0, 0.5))
    whitened = reference.whitening()(np.array([[1.0, 2.0, 3.0], [np.nan, 0.0, 0.0]]))
    assert reference.embedding_size == 3
    assert whitened[0].tolist() == [6.0, -2.5]
    assert not np.isfinite(whitened[1]).all()


@pytest.mark.parametrize(
    ("projection", "offset", "message"),
    [
        (((1.0, 2.0),), (0.0, 0.0), "as many offsets"),
        (((1.0, 2.0), (1.0,)), (0.0, 0.0), "of one length"),
        (((float("nan"),),), (0.0,), "finite"),
    ],
)
def test_directions_and_offsets_fit(
    projection: tuple[tuple[float, ...], ...], offset: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        EmbeddingReference(size=9, projection=projection, offset=offset)
