"""How a model is best called on this machine, measured while it warms up, before anyone waits for it.

Batch sizes are tried with every worker busy, then the numbers of workers at the size that was chosen. A larger batch or
one more worker must pay: of all within 3 % of the best throughput the smallest is taken. What is tried in turn is
tried again in turn, and the median counts; time for which others had the processors does not, for a choice made on a
busy machine stays. What decodes and replies needs processors too, so a fast model gets fewer workers than there are.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NEAR_BEST = 0.97
SPEND_S = 2.0  # in all, for a model that needs less than a tenth of it for an image
SIZES_SHARE = 0.7  # of that for the batch sizes, the rest for the workers
SLICE_S = 0.02  # of one measurement, or one batch for each worker
ROUNDS = 5
HANDOFF_S = 5e-5  # of a processor, to hand a batch to a thread and its answers back (some 50 us with uvloop)
BESIDE_S = 4e-4  # of a processor, for an image outside the engine: reading, decoding, answering
LAST_STEPS = 2
SCHEDSTAT = Path("/proc/thread-self/schedstat")  # ns on a processor, ns ready and waiting for one, time slices


class Tunable(Protocol):
    """What an engine offers for this: see `service.inference.engine.Engine`."""

    def batch_sizes(self, largest: int | None = None) -> list[int]: ...
    def worker_counts(self) -> list[int]: ...
    def padded(self, size: int) -> int: ...
    def warm_up(self, size: int) -> None: ...
    def rehearse(self, size: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Tuning:
    max_batch: int
    workers: int
    batch_sizes: tuple[int, ...]  # all that may be run; each was, before the model is ready
    images_per_s: float  # at that batch and with these workers, as measured
    by_batch: Mapping[int, float]  # images per second by batch size, with the most workers
    by_workers: Mapping[int, float]  # images per second by number of workers, at that batch


def tune(engine: Tunable, max_batch: int | None = None, workers: int | None = None, spend_s: float = SPEND_S) -> Tuning:
    """Warms the engine up and measures what is not given. Takes about `spend_s`, more only for a slow model.

    Raises BundleError when the model fails at a batch size.
    """
    began = time.perf_counter()
    sizes = engine.batch_sizes(max_batch)
    counts = engine.worker_counts() if workers is None else [workers]
    engine.warm_up(1)
    by_batch = _by_batch(engine, sizes if max_batch is None else sizes[-1:], counts[-1], began + SIZES_SHARE * spend_s)
    chosen = smallest_near_best(by_batch)
    by_workers = _in_rounds(lambda n: _images_per_s(engine, chosen, n), {n: [] for n in counts}, began + spend_s)
    used = sorted({engine.padded(size) for size in range(1, chosen + 1)})
    for size in used:
        engine.warm_up(size)
    busy = enough_workers(by_workers)
    return Tuning(chosen, busy, tuple(used), by_workers[busy], by_batch, by_workers)


def enough_workers(images_per_s: Mapping[int, float]) -> int:
    """The smallest number near the best, of what the processors can answer when they decode and reply as well."""
    most = max(images_per_s)
    image_s = most / images_per_s[most]
    answered_per_s = most / (image_s + BESIDE_S)
    return smallest_near_best({workers: min(rate, answered_per_s) for workers, rate in images_per_s.items()})


def smallest_near_best(images_per_s: Mapping[int, float]) -> int:
    """Of all within 3 % of the best throughput the smallest."""
    enough = NEAR_BEST * max(images_per_s.values())
    return min(choice for choice, rate in images_per_s.items() if rate >= enough)


def _by_batch(engine: Tunable, sizes: Sequence[int], workers: int, until: float) -> dict[int, float]:
    """Grows the batch while that pays and time is left, then measures again what was tried."""
    tried: dict[int, list[float]] = {}
    for size in sizes:
        began = time.perf_counter()
        engine.warm_up(size)
        tried[size] = [_images_per_s(engine, size, workers)]
        now = time.perf_counter()
        if now + 2 * (now - began) > until or _pays_no_more([rate for rates in tried.values() for rate in rates]):
            break
    return _in_rounds(lambda size: _images_per_s(engine, size, workers), tried, until)


def _pays_no_more(rates: Sequence[float]) -> bool:
    """Whether neither of the last two steps brought the 3 % that a larger batch must bring."""
    return len(rates) > LAST_STEPS and NEAR_BEST * max(rates[-LAST_STEPS:]) < max(rates[:-LAST_STEPS])


def _in_rounds(measure: Callable[[int], float], rates: dict[int, list[float]], until: float) -> dict[int, float]:
    """The median of each choice over rounds: one at least, more while the time lasts and there is a choice."""
    rounds = ROUNDS if len(rates) > 1 else 1
    while len(next(iter(rates.values()))) < rounds:
        began = time.perf_counter()
        for choice, measured in rates.items():
            measured.append(measure(choice))
        now = time.perf_counter()
        if now + (now - began) > until:
            break
    return {choice: statistics.median(measured) for choice, measured in rates.items()}


def _images_per_s(engine: Tunable, size: int, workers: int) -> float:
    """With that many threads at it, were they alone on the machine, and each batch handed over."""

    def work(until: float) -> float:
        began, batches = _own_time_s(), 0
        while not batches or time.perf_counter() < until:
            engine.rehearse(size)
            batches += 1
        return batches * size / (_own_time_s() - began + batches * HANDOFF_S)

    with ThreadPoolExecutor(workers, thread_name_prefix="tuning") as threads:
        return sum(threads.map(work, [time.perf_counter() + SLICE_S] * workers))


def _own_time_s() -> float:
    """A clock that stands still while this thread is ready to run and others have the processors, where Linux tells."""
    while True:
        waited_ns = _waited_ns()
        now = time.perf_counter()
        if _waited_ns() == waited_ns:  # else it had to wait between the two readings, and they do not fit
            return now - waited_ns / 1e9


def _waited_ns() -> int:
    try:
        return int(SCHEDSTAT.read_bytes().split()[1])
    except OSError:
        return 0
