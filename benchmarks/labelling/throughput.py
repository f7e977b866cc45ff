"""Throughput with many pending samples: from journal to queue, and of leasing and labelling, in samples per second."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress

from benchmarks.labelling.material import images, sample, samples
from service.background import end
from service.labelling.drain import Drain
from service.labelling.journal.journal import Journal
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.policy import QueuePolicy
from service.labelling.queue.redis_queue import RedisQueue
from service.redis.private_valkey import private_valkey
from service.redis.server import RedisServer

MODEL = "digits"
FILL_CHUNK = 500
LEASE_S = 600.0
POLL_S = 0.02
LABEL = {"values": [[20.0, 30.0]] * 4}
WORKERS = 16
GIB = 2**30
ROOMY = QueuePolicy(max_pending=10_000_000, max_bytes=100 * GIB)


async def fill(queue: RedisQueue, model: str, n: int, advance: Callable[[int], Any], start: int = 0) -> None:
    """Puts n samples without images."""
    many = samples(model, n, start)
    while chunk := list(itertools.islice(many, FILL_CHUNK)):
        await queue.put(chunk)
        advance(len(chunk))


async def drained(folder: Path, pending: int, n: int, runs: int, progress: Progress) -> dict[str, Any]:
    """Samples per second from journal to queue: until the last was put, and until the last row was deleted."""
    roomy = await _drained(folder / "roomy", ROOMY, pending, n, runs, progress)
    full = await _drained(folder / "full", QueuePolicy(max_pending=pending), pending, n, runs, progress)
    rates = {"put_per_s": roomy[0], "settled_and_deleted_per_s": roomy[1]}
    rates |= {"put_per_s_while_each_evicts_one": full[0], "settled_and_deleted_per_s_while_each_evicts_one": full[1]}
    return {"pending": pending, "samples": n, **rates}


async def _drained(  # noqa: PLR0913, PLR0917 - each is a size that a tiny run makes small
    folder: Path, policy: QueuePolicy, pending: int, n: int, runs: int, progress: Progress
) -> tuple[list[float], list[float]]:
    """Rates of putting, and of all, in each run. From run to run n more are pending, unless the policy evicts."""
    async with AsyncExitStack() as stack:
        socket = await stack.enter_async_context(private_valkey(folder / "valkey"))
        blobs = BlobStore.open(folder / "blobs")
        server = RedisServer.open(str(socket), timeout_s=2.0)
        stack.push_async_callback(server.close)
        queue = RedisQueue(server, blobs, policy)
        journal = Journal.open(folder / "journal", max_bytes=GIB, max_rows=10 * n)
        stack.push_async_callback(journal.close)
        task = progress.add_task("fill the queue", total=pending)
        await fill(queue, MODEL, pending, partial(progress.advance, task))
        rates = []
        for run in range(runs):
            task = progress.add_task("fill the journal", total=n)
            await _journalled(journal, n, run, partial(progress.advance, task))
            task = progress.add_task("drain", total=n)
            put_s, drained_s = await _drain(Drain(journal, blobs, queue), queue, n, partial(progress.update, task))
            rates.append((n / put_s, n / drained_s))
    return [rate for rate, _ in rates], [rate for _, rate in rates]


async def _drain(drain: Drain, queue: RedisQueue, n: int, show: Callable[..., Any]) -> tuple[float, float]:
    """Seconds until the last was put, and until the last row was deleted."""
    before = (await queue.stats(MODEL))["accepted"]
    started_s, put_s = time.perf_counter(), 0.0
    running = asyncio.create_task(drain.run())
    while drain.drained < n:
        await asyncio.sleep(POLL_S)
        show(completed=drain.drained)
        if not put_s and (await queue.stats(MODEL))["accepted"] >= before + n:
            put_s = time.perf_counter() - started_s
    drained_s = time.perf_counter() - started_s
    await end(running)
    return put_s, drained_s


async def _journalled(journal: Journal, n: int, seed: int, advance: Callable[[int], Any]) -> None:
    many, rng = images(n, seed), random.Random(seed)
    while chunk := list(itertools.islice(many, FILL_CHUNK)):
        await asyncio.gather(*(journal.append(sample(MODEL, image, rng.expovariate(1.0)), image) for image in chunk))
        advance(len(chunk))


async def leased_and_labelled(folder: Path, pending: int, n: int, runs: int, progress: Progress) -> dict[str, Any]:
    """Samples per second that are leased and labelled, one by one and 20 at a time, by WORKERS at once."""
    rates: dict[int, list[float]] = {1: [], 20: []}
    async with private_valkey(folder / "valkey") as socket:
        server = RedisServer.open(str(socket), timeout_s=2.0)
        queue = RedisQueue(server, BlobStore.open(folder / "blobs"), ROOMY)
        task = progress.add_task("fill the queue", total=pending)
        await fill(queue, MODEL, pending, partial(progress.advance, task))
        for run in range(runs):
            for batch, found in rates.items():
                started_s = time.perf_counter()
                await asyncio.gather(
                    *(_work(queue, f"{run} {batch} {one}", batch, n // WORKERS) for one in range(WORKERS))
                )
                found.append(n // WORKERS * WORKERS / (time.perf_counter() - started_s))
                await fill(queue, MODEL, n, lambda _: None, start=pending + n * (2 * run + (batch > 1)))
        await server.close()
    return {
        "pending": pending,
        "samples": n,
        "workers": WORKERS,
        "one_by_one_per_s": rates[1],
        "by_20_per_s": rates[20],
    }


async def _work(queue: RedisQueue, name: str, batch: int, n: int) -> None:
    done = 0
    while done < n:
        token = f"{name} {done}"
        leased = await queue.lease(MODEL, min(batch, n - done), name, token, LEASE_S)
        for one in leased:
            await queue.label(MODEL, one.sample.id, name, token, LABEL)
        done += len(leased)
