"""The cost of a flagged request compared with one that is not: latency and processor time, at several flagged shares.

One service, its private Valkey, and clients over plain sockets. The flagged images and the others are
canvases that the shipped model judges so; rounds of all shares follow each other in random order. The
processor time of a round runs until the journal is empty again, so that it includes the drain.
"""

import asyncio
import os
import random
import re
import statistics
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from rich.progress import Progress

from benchmarks.labelling.material import canvases, numbered
from demo.running import running_service

ROOT = Path(__file__).resolve().parents[2]
PROBES = 60
POLL_S = 0.1


async def flagged(  # noqa: PLR0913, PLR0917 - each is a size that a tiny run makes small
    folder: Path, shares: Sequence[float], clients: Sequence[int], requests: int, rounds: int, progress: Progress
) -> dict[str, Any]:
    os.environ["LOSSCAST_AUDIT_RATE"] = "0"
    latency: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    rate: dict[str, list[float]] = {}
    rng = random.Random(0)
    with running_service(ROOT / "bundles", "digits", folder) as url:
        plain, lossy = _find(url)
        cells = [cell for cell in product(clients, shares) for _ in range(rounds)]
        rng.shuffle(cells)
        await _round(url, [numbered(plain) for _ in range(requests)], max(clients))  # to warm up
        for n, share in progress.track(cells, description="requests at several flagged shares"):
            bodies = [numbered(lossy if rng.random() < share else plain) for _ in range(requests)]
            name = f"{n} clients, {share:.0%} flagged"
            before, started_s = _processor_s(folder), time.perf_counter()
            took = await _round(url, bodies, n)
            rate.setdefault(name, []).append(requests / (time.perf_counter() - started_s))
            await _drained(url)
            processor.setdefault(name, []).append((_processor_s(folder) - before) / requests * 1e6)
            latency.setdefault(name, []).extend(took)
    return {
        "requests_in_a_round": requests,
        "rounds": rounds,
        "image_bytes": {"plain": len(plain), "lossy": len(lossy)},
        "latency_ms": {name: _quantiles(took) for name, took in latency.items()},
        "processor_us_per_request": {name: round(statistics.median(used)) for name, used in processor.items()},
        "requests_per_s": {name: round(statistics.median(found)) for name, found in rate.items()},
    }


def _find(url: str) -> tuple[bytes, bytes]:
    """A canvas that is not flagged, and one that is."""
    found: dict[bool, bytes] = {}
    for png in canvases(PROBES):
        reply = httpx.post(f"{url}/v1/predict", content=png, headers={"content-type": "image/png"}, timeout=30)
        found.setdefault(reply.raise_for_status().json()["verdict"]["lossy"], png)
    return found[False], found[True]


async def _round(url: str, bodies: Sequence[bytes], clients: int) -> list[float]:
    waiting = list(bodies)
    took = await asyncio.gather(*(_client(url, waiting) for _ in range(clients)))
    return [one for part in took for one in part]


async def _client(url: str, waiting: list[bytes]) -> list[float]:
    """Sends what waits, one request after the other on one connection; seconds that each took."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    took = []
    while waiting:
        body = waiting.pop()
        head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
        started_s = time.perf_counter()
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"the service answered {answer!r}")
        length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
        await reader.readexactly(int(length.group(1)) if length else 0)
        took.append(time.perf_counter() - started_s)
    writer.close()
    await writer.wait_closed()
    return took


async def _drained(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        while "\nlosscast_journal_rows 0" not in (await http.get("/metrics")).text:  # noqa: ASYNC110 - another process
            await asyncio.sleep(POLL_S)


def _processor_s(folder: Path) -> float:
    """Of the service and its Valkey, as far as Linux tells: all processes that work on files in the folder."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            if str(folder).encode() in command:
                fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def _quantiles(took_s: Sequence[float]) -> dict[str, float]:
    median, high = np.quantile(took_s, [0.5, 0.99]) * 1e3
    return {"median": round(float(median), 3), "p99": round(float(high), 3)}
