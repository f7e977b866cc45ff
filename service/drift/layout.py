"""What the numbers of a tally are: one vector that adds up, in named sections.

Replicas that mean the same by it have the same fingerprint, and only their sums are added: another reference, another
build that bins or samples in another way, makes a ledger of its own.
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
FORMAT: Final = 1  # to be raised when the same sections come to mean something else

Floats = NDArray[np.float64]


class Layout:
    """Of one bundle. Sections:

    counts:{signal}      observations by bin
    loss                 observations, sum and sum of squares of their predicted losses
    dependence:{signal}  statistics of `dependence`
    embedding            observations, and sums of their embeddings in each direction of the reference; none without it
    outcomes             images by what became of them: OUTCOMES
    """

    def __init__(self, manifest: Manifest) -> None:
        """Raises ValueError for references that nothing can be judged by."""
        self.manifest = manifest
        watched = {name: manifest.drift_reference[name] for name in SIGNALS if name in manifest.drift_reference}
        self.signals: tuple[str, ...] = tuple(watched)
        self.not_watched: tuple[str, ...] = tuple(name for name in SIGNALS if name not in watched)
        self.bins: Mapping[str, Bins] = {name: _bins(name, one) for name, one in watched.items()}
        self.jitters: Mapping[str, float] = {name: one.jitter for name, one in watched.items()}
        reference = manifest.embedding_reference
        sizes = {f"counts:{name}": len(self.bins[name].alpha) for name in self.signals} | {"loss": 3}
        self.remembered = sum(sizes.values())  # so much of the beginning of a vector has a history
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
        """A view of one section. sums: [..., size], or as much of its beginning."""
        return sums[..., self._sections[section]]


def _bins(name: str, reference: OrderStatistics) -> Bins:
    """What is derived from them is derived here: a fault in it is one of the bundle, not of an image."""
    try:
        bins = Bins.of(reference)
        is_fine = np.isfinite(bins.normal_scores).all() and bins.extreme.any()
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"the drift reference of {name} cannot be used: {error}") from error
    if not is_fine:
        raise ValueError(f"the drift reference of {name} cannot be used: its ranks are out of range")
    return bins
