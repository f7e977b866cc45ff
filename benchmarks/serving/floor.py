"""The floor: sends images through the pipeline in one process, without a server. A program that prints JSON.

python -m benchmarks.serving.floor BUNDLE IMAGES THREADS BATCH SECONDS
"""

import itertools
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import orjson

from benchmarks.serving.load import read_images
from benchmarks.serving.pipeline import Pipeline

WARM_UP = 20
SINGLE = 100  # images one by one on one thread: the service time of a batch of 1


def measure(bundle: Path, images: Path, threads: int, batch: int, seconds: float) -> dict[str, float]:
    """Images per second and processor time, with threads that take `batch` images at a time; the time of one image."""
    pipeline, bodies = Pipeline(bundle), read_images(images)
    for body in bodies[:WARM_UP]:
        pipeline(body)
    alone = [_time(pipeline, body) for body in itertools.islice(itertools.cycle(bodies), SINGLE)]
    with ThreadPoolExecutor(threads) as pool:
        before, started = time.process_time(), time.perf_counter()
        done = sum(
            pool.map(lambda n: _work(pipeline, bodies[n:] + bodies[:n], batch, started + seconds), range(threads))
        )
        took, used = time.perf_counter() - started, time.process_time() - before
    return {
        "requests": done,
        "per_s": done / took,
        "cpu_ms": used / done * 1e3,
        "alone_ms": float(np.median(alone)) * 1e3,
    }


def _work(pipeline: Pipeline, bodies: Sequence[bytes], batch: int, until: float) -> int:
    waiting, done = itertools.cycle(bodies), 0
    while time.perf_counter() < until:
        pictures = [pipeline.decode(body) for body in itertools.islice(waiting, batch)]
        for picture, row in zip(pictures, pipeline.infer(pictures), strict=True):
            pipeline.reply(picture, row)
        done += batch
    return done


def _time(pipeline: Pipeline, body: bytes) -> float:
    started = time.perf_counter()
    pipeline(body)
    return time.perf_counter() - started


if __name__ == "__main__":
    bundle, images, threads, batch, seconds = sys.argv[1:]
    print(orjson.dumps(measure(Path(bundle), Path(images), int(threads), int(batch), float(seconds))).decode())
