"""What a service compares its traffic with: references of calibration inputs, as the bundle's own ONNX answers them.

One view of every calibration source goes in, as the counts are of independent draws; parts of the manifest come out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.calibration.bounds import checked_numbers
from models.contract.manifest import Manifest, OrderStatistics
from models.contract.reference import MAX_DIRECTIONS, EmbeddingReference, LossReference
from models.contract.signals import IMAGE_SIGNALS, SIGNALS, Signal, image_signals, jitter

CALIBRATION_SEED: Final = 0  # the calibration canvases are the same for every model
DRIFT_BINS: Final = 100
NOISE: Final = 1e-3  # width of the jitter, in spreads of the signal
SAME: Final = 1e-6  # spread per size of a value below which it counts as constant: rounding of float32
OF_SIZE: Final = ("aspect", "size")
ROWS_PER_DIRECTION: Final = 10  # with fewer, the unit covariance is that of the reference alone
DIGITS, DIRECTION_DIGITS = 7, 5

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class References:
    """The parts of a manifest that drift is told by."""

    drift: dict[Signal, OrderStatistics]
    losses: LossReference
    embeddings: EmbeddingReference | None  # None: no direction in which they vary

    def put_into(self, manifest: Manifest) -> Manifest:
        return manifest.model_copy(
            update={
                "drift_reference": self.drift,
                "loss_reference": self.losses,
                "embedding_reference": self.embeddings,
            }
        )


def references(
    outputs: Mapping[str, NDArray[np.floating]], images: NDArray[np.uint8], sizes: NDArray[np.integer] | None
) -> References:
    """Of m inputs, one of each source. outputs: those of the ONNX, by name, [m, ...]; images: canvases [m, h, w, c];
    sizes: [m, 2] as posted, or None where they are not known: aspect and size are not watched then.

    Raises ValueError on scores, OOD scores or predicted losses that are not finite.
    """
    columns: dict[Signal, Array] = {name: outputs[name].astype(np.float64) for name in ("score", "ood_score")}
    known = canvas_sizes(images) if sizes is None else sizes
    columns |= dict(zip(IMAGE_SIGNALS, image_signals(images, known).T, strict=True))
    watched = [name for name in SIGNALS if sizes is not None or name not in OF_SIZE]
    return References(
        drift={name: signal_reference(columns[name], SIGNALS.index(name)) for name in watched},
        losses=loss_reference(outputs["predicted_loss"]),
        embeddings=embedding_reference(outputs["embedding"]),
    )


def canvas_sizes(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """images: [n, height, width, channels] -> [n, 2], width and height."""
    return np.tile(np.array(images.shape[2:0:-1], np.int64), (len(images), 1))


def signal_reference(values: ArrayLike, seed: int) -> OrderStatistics:
    """Order statistics of `values` [m] with the jitter that observations must get too, rounded to a thousandth of it.

    A constant signal has the jitter's width for its whole spread: whatever leaves it lies outside all bins.
    Raises ValueError on values that are not finite.
    """
    column = np.asarray(values, np.float64)
    if not column.size or not np.isfinite(column).all():
        raise ValueError("a reference needs numbers, all of them finite")
    size, spread = float(np.abs(column).max()), float(column.std())
    width = _significant(NOISE * (spread if spread > SAME * size else size or 1.0), 2)
    noisy = jitter(column, width, np.random.default_rng(seed))
    decimals = 3 - math.floor(math.log10(width))
    return order_statistics(np.round(noisy, decimals), DRIFT_BINS).model_copy(update={"jitter": width})


def order_statistics(values: ArrayLike, bins: int) -> OrderStatistics:
    """The reference `values` [n], kept at `bins` + 1 evenly spread ranks and denser at the top.

    Ranks 1 and n are always there, and n - 1, n - 3, n - 7, ... down to the last even step, so that the
    upper tail can be read at log-spaced probabilities. Equal values are kept once for each rank.
    """
    ordered = np.sort(checked_numbers(values))
    n = ordered.size
    even = np.round(np.linspace(1, n, bins + 1)).astype(int)
    top = n + 1 - 2 ** np.arange(max(n // bins, 1).bit_length())
    ranks = np.unique(np.concatenate([even, top]))
    return OrderStatistics(
        size=n,
        ranks=tuple(int(rank) for rank in ranks),
        values=tuple(float(value) for value in ordered[ranks - 1]),
    )


def loss_reference(predicted: ArrayLike) -> LossReference:
    """predicted: losses [m], in the unit of the loss. Raises ValueError when they are none or not finite."""
    column = np.asarray(predicted, np.float64)
    if not column.size or not np.isfinite(column).all():
        raise ValueError("a reference needs predicted losses, all of them finite")
    mean, sd = (_significant(float(value), DIGITS) for value in (column.mean(), column.std()))
    return LossReference(mean_predicted_loss=mean, sd=sd, n=column.size)


def embedding_reference(embeddings: ArrayLike) -> EmbeddingReference | None:
    """PCA whitening of `embeddings` [m, e], their dimensions brought to unit variance first; None without a direction.

    At most `MAX_DIRECTIONS`, and one for every `ROWS_PER_DIRECTION` rows, those of the largest variance first.
    Dimensions and directions that do not vary are dropped, as are rows that are not finite.
    """
    rows = np.asarray(embeddings, np.float64)
    x = rows[np.isfinite(rows).all(axis=1)]
    if not x.size:
        return None
    mean, scale = x.mean(axis=0), x.std(axis=0)
    varying = scale > SAME * np.maximum(np.abs(x).max(axis=0), scale.max())
    scale[~varying] = np.inf
    _, spreads, axes = np.linalg.svd((x - mean) / scale, full_matrices=False)
    kept = int((spreads > math.sqrt(SAME) * spreads[0]).sum()) if spreads[0] > 0 else 0
    kept = min(kept, MAX_DIRECTIONS, len(x) // ROWS_PER_DIRECTION)
    if not kept:
        return None
    axes = axes[:kept] * np.sign(axes[np.arange(kept), np.abs(axes[:kept]).argmax(axis=1)])[:, None]
    directions = axes / scale * (math.sqrt(len(x)) / spreads[:kept, None])
    projection = _rows(directions, DIRECTION_DIGITS)
    offset = np.array(projection) @ mean  # of what was rounded, so that the mean is 0
    return EmbeddingReference(size=len(x), projection=projection, offset=_rows(offset[None], DIGITS)[0])


def _rows(values: Array, digits: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(_significant(value, digits) for value in row) for row in values.tolist())


def _significant(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
