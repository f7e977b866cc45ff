"""Whether operations stay equally fast: the latency of each with 1,000 to 1,000,000 pending samples, and memory used.

One server holds a queue of each size. Rounds go over all sizes and operations in random order, and a
round leaves the sizes as they were, so that load from elsewhere meets all alike.
"""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from redis.asyncio import Redis
from rich.progress import Progress

from benchmarks.labelling.material import samples
from benchmarks.labelling.throughput import LABEL, LEASE_S, ROOMY, fill
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.redis_queue import RedisQueue
from service.labelling.samples.sample import Sample
from service.redis.private_valkey import private_valkey
from service.redis.server import RedisServer

OPERATIONS = ("announce", "put", "lease", "label", "stats")


class Timed:
    """The queue of one size; each step is timed."""

    def __init__(self, queue: RedisQueue, size: int) -> None:
        self.model = f"size-{size}"
        self.took_s: dict[str, list[float]] = {name: [] for name in OPERATIONS}
        self._queue, self._fresh = queue, samples(self.model, 10**9, start=size)

    async def round(self, number: int) -> None:
        """One sample comes in, the best one is leased and labelled: as many are pending as before."""
        fresh: Sample = next(self._fresh)
        token = f"round {number}"
        await self._time("announce", lambda: self._queue.announce([fresh]))
        await self._time("put", lambda: self._queue.put([fresh]))
        leased = await self._time("lease", lambda: self._queue.lease(self.model, 1, "ada", token, LEASE_S))
        await self._time("label", lambda: self._queue.label(self.model, leased[0].sample.id, "ada", token, LABEL))
        await self._time("stats", lambda: self._queue.stats(self.model))

    async def _time(self, name: str, step: Callable[[], Awaitable[Any]]) -> Any:
        started_s = time.perf_counter()
        result = await step()
        self.took_s[name].append(time.perf_counter() - started_s)
        return result


async def scaling(folder: Path, sizes: Sequence[int], rounds: int, progress: Progress) -> dict[str, Any]:
    async with private_valkey(folder / "valkey") as socket, Redis(unix_socket_path=str(socket)) as client:
        server = RedisServer.open(str(socket), timeout_s=30.0)
        queue = RedisQueue(server, BlobStore.open(folder / "blobs"), ROOMY)
        queues, memory = {}, {}
        for size in sizes:
            before = await _used(client)
            task = progress.add_task(f"fill a queue with {size:,}", total=size)
            queues[size] = Timed(queue, size)
            await fill(queue, queues[size].model, size, partial(progress.advance, task))
            memory[size] = round((await _used(client) - before) / size)
        await _time_rounds(queues, rounds, progress)
        await server.close()
    return {
        "sizes": list(sizes),
        "rounds": rounds,
        "memory_bytes_per_sample": memory,
        "latency_us": {name: {size: _spread(queues[size].took_s[name]) for size in sizes} for name in OPERATIONS},
    }


async def _time_rounds(queues: dict[int, Timed], rounds: int, progress: Progress) -> None:
    rng = random.Random(0)
    order = list(queues.values())
    for number in progress.track(range(rounds), description="interleaved rounds"):
        rng.shuffle(order)
        for one in order:
            await one.round(number)


async def _used(client: Redis) -> int:
    return int((await cast("Any", client).info("memory"))["used_memory"])


def _spread(took_s: Sequence[float]) -> dict[str, float]:
    low, median, high = np.quantile(took_s, [0.1, 0.5, 0.9]) * 1e6
    return {"p10": round(float(low), 1), "median": round(float(median), 1), "p90": round(float(high), 1)}
