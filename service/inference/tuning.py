"""Measures, during the warm-up, which batch size and how many workers suit a model on this machine.

Batch sizes are tried with all workers busy, then the number of workers at the chosen size. A larger batch or one more
worker must pay: the smallest choice within 3 % of the best throughput is taken. The choices are tried in turn, over
several rounds, and the median counts. Time in which other processes had the processors is left out, because a choice
made on a busy machine stays. Decoding and replying need processors too, so a fast model gets fewer workers than there
are processors.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NEAR_BEST = 0.97
SPEND_S = 2.0  # in all, for a model that takes less than a tenth of it for an image
SIZES_SHARE = 0.7  # of SPEND_S, for the batch sizes; the rest is for the workers
SLICE_S = 0.02  # of one measurement; it takes longer when one batch does
ROUNDS = 5
HANDOFF_S = 5e-5  # of a processor, to hand a batch to a thread and its outputs back (about 50 us with uvloop)
BESIDE_S = 4e-4  # of a processor, for one image outside the engine: to read, decode and reply
LAST_STEPS = 2
SCHEDSTAT = Path("/proc/thread-self/schedstat")  # ns on a processor, ns ready and waiting for one, time slices


class Tunable(Protocol):
    """The part of `service.inference.engine.Engine` that tuning uses."""

    def batch_sizes(self, largest: int | None = None) -> list[int]: ...
    def worker_counts(self) -> list[int]: ...
    def padded(self, size: int) -> int: ...
    def warm_up(self, size: int) -> None: ...
    def rehearse(self, size: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Tuning:
    max_batch: int
    workers: int
    batch_sizes: tuple[int, ...]  # all that may run; each was run during the warm-up
    images_per_s: float  # as measured with these two
    by_batch: Mapping[int, float]  # images per second by batch size, with the most workers
    by_workers: Mapping[int, float]  # images per second by number of workers, at that batch


def tune(engine: Tunable, max_batch: int | None = None, workers: int | None = None, spend_s: float = SPEND_S) -> Tuning:
    """Warms the engine up and measures the values that are not given. Takes about `spend_s`, with a slow model more.

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
    """The smallest number of workers within 3 % of the best, when the processors also have to decode and reply."""
    most = max(images_per_s)
    image_s = most / images_per_s[most]
    answered_per_s = most / (image_s + BESIDE_S)
    return smallest_near_best({workers: min(rate, answered_per_s) for workers, rate in images_per_s.items()})


def smallest_near_best(images_per_s: Mapping[int, float]) -> int:
    """The smallest choice within 3 % of the best throughput."""
    enough = NEAR_BEST * max(images_per_s.values())
    return min(choice for choice, rate in images_per_s.items() if rate >= enough)


def _by_batch(engine: Tunable, sizes: Sequence[int], workers: int, until: float) -> dict[int, float]:
    """Tries larger batches while that pays and time is left, then measures the same sizes again."""
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
    """Whether neither of the last two steps gained the 3 % that a larger batch must gain."""
    return len(rates) > LAST_STEPS and NEAR_BEST * max(rates[-LAST_STEPS:]) < max(rates[:-LAST_STEPS])


def _in_rounds(measure: Callable[[int], float], rates: dict[int, list[float]], until: float) -> dict[int, float]:
    """The median of each choice, over one round or more: more while there is time, and more than one choice."""
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
    """The throughput of that many threads, as if they had the machine to themselves, with the hand-over of batches."""

    def work(until: float) -> float:
        began, batches = _own_time_s(), 0
        while not batches or time.perf_counter() < until:
            engine.rehearse(size)
            batches += 1
        return batches * size / (_own_time_s() - began + batches * HANDOFF_S)

    with ThreadPoolExecutor(workers, thread_name_prefix="tuning") as threads:
        return sum(threads.map(work, [time.perf_counter() + SLICE_S] * workers))


def _own_time_s() -> float:
    """A clock that stops while this thread waits for a processor, where Linux reports that wait."""
    while True:
        waited_ns = _waited_ns()
        now = time.perf_counter()
        if _waited_ns() == waited_ns:  # else the thread had to wait between the readings, and they do not match
            return now - waited_ns / 1e9


def _waited_ns() -> int:
    try:
        return int(SCHEDSTAT.read_bytes().split()[1])
    except OSError:
        return 0
