"""The layout of a tally: one vector of sums, in named sections.

Replicas add up their vectors only if the layouts have the same fingerprint. A bundle with another reference, or a
release that bins or samples in another way, has another fingerprint and so a ledger of its own.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from models.contract.manifest import Manifest, OrderStatistics
from models.contract.signals import SIGNALS
from service.drift.statistics import dependence
from service.drift.statistics.bins import Bins

OUTCOMES: Final = ("counted", "thinned", "not_finite")  # of an image
FORMAT: Final = 1  # raise it when the same sections get another meaning

Floats = NDArray[np.float64]


class Layout:
    """The layout of one bundle. Sections:

    counts:{signal}      observations in each bin
    loss                 number, sum and sum of squares of predicted losses
    dependence:{signal}  statistics of `dependence`
    embedding            number of embeddings, and their sum in each direction of the reference; empty without one
    outcomes             number of images by outcome: OUTCOMES
    """

    def __init__(self, manifest: Manifest) -> None:
        """Raises ValueError for a reference that cannot be used."""
        self.manifest = manifest
        watched = {name: manifest.drift_reference[name] for name in SIGNALS if name in manifest.drift_reference}
        self.signals: tuple[str, ...] = tuple(watched)
        self.not_watched: tuple[str, ...] = tuple(name for name in SIGNALS if name not in watched)
        self.bins: Mapping[str, Bins] = {name: _bins(name, one) for name, one in watched.items()}
        self.jitters: Mapping[str, float] = {name: one.jitter for name, one in watched.items()}
        reference = manifest.embedding_reference
        sizes = {f"counts:{name}": len(self.bins[name].alpha) for name in self.signals} | {"loss": 3}
        self.remembered = sum(sizes.values())  # the first so many numbers of a vector have a history
        sizes |= {f"dependence:{name}": dependence.SIZE for name in self.signals}
        sizes |= {"embedding": 1 + len(reference.offset) if reference else 0, "outcomes": len(OUTCOMES)}
        ends = np.cumsum(list(sizes.values())).tolist()
        self.whitening = reference.whitening() if reference else None
        self._sections = {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
        self.size: int = ends[-1]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits."""
        reference = self.manifest.embedding_reference
        meaning = [
            FORMAT,
            [(name, part.start, part.stop) for name, part in self._sections.items()],
            [(bins.edges.tolist(), bins.alpha.tolist()) for bins in self.bins.values()],
            list(self.jitters.values()),
            reference.model_dump() if reference else None,
            self.manifest.onnx_sha256,
        ]
        return hashlib.sha256(orjson.dumps(meaning)).hexdigest()[:16]

    def empty(self) -> Floats:
        return np.zeros(self.size)

    def of(self, sums: Floats, section: str) -> Floats:
        """A view of one section. sums: [..., size], or only the beginning of such a vector."""
        return sums[..., self._sections[section]]


def _bins(name: str, reference: OrderStatistics) -> Bins:
    """Also computes what is derived from the bins: a fault must show when the bundle is loaded, not at an image."""
    try:
        bins = Bins.of(reference)
        is_fine = np.isfinite(bins.normal_scores).all() and bins.extreme.any()
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"the drift reference of {name} cannot be used: {error}") from error
    if not is_fine:
        raise ValueError(f"the drift reference of {name} cannot be used: its ranks are out of range")
    return bins
