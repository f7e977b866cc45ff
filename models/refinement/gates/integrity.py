"""The gate on the file itself: it is whole, batches change nothing, it is not slow, and no image breaks it."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.contract.bundle import BundleError, read_manifest, read_onnx
from models.contract.gate_report import GateResult
from models.contract.manifest import Manifest, Preprocessing
from models.contract.runtime import open_session
from models.publishing.export import PARITY_TOLERANCE
from models.refinement.gates.answers import finite
from models.refinement.gates.material import GateInputs

SLOWEST = 1.1  # times live
ROUNDS, MOST_ROUNDS = 31, 155  # of the timing, candidate and live in turn; more while it is not decided
BATCH = 32

Outputs = dict[str, NDArray[np.float32]]


class _FaultError(Exception):
    """The file cannot be served; the message says why."""


def integrity(inputs: GateInputs) -> tuple[GateResult, GateResult]:
    """Whether the file can be served, and whether it is as fast as live."""
    try:
        manifest = _manifest(inputs)
        session = open_session(read_onnx(inputs.candidate, manifest))
        images = extreme_images(manifest.preprocessing)
        single = _check(session, manifest, images)
    except _FaultError as fault:
        return _failed(str(fault)), _no_time()
    except BundleError as error:
        return _failed(f"The candidate cannot be read: {error}"), _no_time()
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises errors of many kinds for a file that it cannot run
        return _failed(f"ONNX Runtime cannot run the candidate: {error}"), _no_time()
    sentence = (
        f"The file has its SHA-256, single images and batches of {BATCH} differ by {single:.1g} of the largest value, "
        f"and {len(images)} black, white, noisy and saturated images give finite numbers."
    )
    whole = GateResult(gate="integrity", outcome="passed", sentence=sentence, labels=len(images))
    return whole, _time(open_session(read_onnx(inputs.live, read_manifest(inputs.live))), session, images[:1])


def extreme_images(spec: Preprocessing) -> NDArray[np.uint8]:
    """Canvases that break careless networks, uint8 [32, h, w, c]: flat, saturated, striped, half gone, noise."""
    return np.stack(list(_extremes(spec)))


def _extremes(spec: Preprocessing) -> Iterator[NDArray[np.uint8]]:
    shape = spec.canvas_shape
    rng = np.random.default_rng(0)
    for level in (0, 255, 1, 254, 128, spec.fill):
        yield np.full(shape, level, np.uint8)
    for channel in range(spec.channels):
        saturated = np.zeros(shape, np.uint8)
        saturated[..., channel] = 255
        yield saturated
    checks = np.indices(shape[:2]).sum(axis=0) % 2 * 255
    yield np.repeat(checks[..., None], spec.channels, axis=2).astype(np.uint8)
    torn = rng.integers(0, 256, shape, np.uint8)
    torn[shape[0] // 2 :] = spec.fill
    yield torn
    for _ in range(BATCH - 8 - spec.channels):
        yield rng.integers(0, 256, shape, np.uint8)


def _manifest(inputs: GateInputs) -> Manifest:
    live, candidate = read_manifest(inputs.live), read_manifest(inputs.candidate)
    for name in ("model", "task", "preprocessing", "loss"):
        if getattr(live, name) != getattr(candidate, name):
            raise _FaultError(f"The candidate has another {name} than the live version, so they cannot be compared.")
    return candidate


def _check(session: Any, manifest: Manifest, images: NDArray[np.uint8]) -> float:
    """The largest difference between single images and a batch, relative to the largest value of an output."""
    batch = _run(session, images)
    shapes = {name: column.shape[1:] for name, column in batch.items()}
    if shapes != manifest.output_shapes:
        raise _FaultError(f"The outputs {shapes} are not those of the manifest, {manifest.output_shapes}.")
    singles = [_run(session, images[row : row + 1]) for row in range(len(images))]
    worst = 0.0
    for name, column in batch.items():
        alone = np.concatenate([single[name] for single in singles])
        if not (np.isfinite(column).all() and np.isfinite(alone).all()):
            raise _FaultError(f"The output {name} is not finite for a black, white, noisy or saturated image.")
        scale = max(1.0, float(np.abs(column).max()))
        worst = max(worst, float(np.abs(column - alone).max()) / scale)
        if worst > PARITY_TOLERANCE:
            raise _FaultError(
                f"The output {name} differs by {worst:.2g} of its largest value between single images and a batch of "
                f"{BATCH}, more than {PARITY_TOLERANCE:g}."
            )
    return worst


def _time(live: Any, candidate: Any, image: NDArray[np.uint8]) -> GateResult:
    """One image at a time: live, candidate, candidate, live, so that no order favours one of them."""
    for session in (live, candidate):
        _run(session, image)
    ratios: list[float] = []
    low, high = 0.0, np.inf
    while low <= SLOWEST < high and len(ratios) < MOST_ROUNDS:
        ratios += [_ratio(live, candidate, image) for _ in range(ROUNDS)]
        low, high = median_interval(ratios)
    return time_result(float(np.median(ratios)), low, high, len(ratios))


def median_interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Ranks between which the median lies with 95 % at each end, whatever the law of the ratios."""
    ordered = sorted(ratios)
    rank = max(1, int(stats.binom.ppf(0.05, len(ordered), 0.5)))
    return ordered[rank - 1], ordered[-rank]


def time_result(middle: float, low: float, high: float, rounds: int) -> GateResult:
    """Failed if the candidate is proven to be slower than `SLOWEST` times live."""
    failed = low > SLOWEST
    verdict = f"slower than {SLOWEST:g} times" if failed else f"not shown to be slower than {SLOWEST:g} times"
    return GateResult(
        gate="integrity: time",
        outcome="failed" if failed else "passed",
        sentence=f"An image takes {middle:.2f} times the time of live ({low:.2f} to {high:.2f}): {verdict}.",
        limit=SLOWEST,
        labels=rounds,
        alpha=0.05,
        **finite(estimate=middle, low=low, high=high),
    )


def _ratio(live: Any, candidate: Any, image: NDArray[np.uint8]) -> float:
    first, *own, last = (_seconds(session, image) for session in (live, candidate, candidate, live))
    return sum(own) / (first + last)


def _seconds(session: Any, image: NDArray[np.uint8]) -> float:
    """Processor time of this thread, on which the session computes: other work on the machine does not count."""
    before = time.thread_time()
    _run(session, image)
    return time.thread_time() - before


def _run(session: Any, images: NDArray[np.uint8]) -> Outputs:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


def _failed(sentence: str) -> GateResult:
    return GateResult(gate="integrity", outcome="failed", sentence=sentence[:600])


def _no_time() -> GateResult:
    return GateResult(
        gate="integrity: time", outcome="not_asked", sentence="The candidate cannot run, so it has no time."
    )
