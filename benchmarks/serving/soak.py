"""Measures whether the service's memory grows: one server, one closed loop, resident memory by number of requests."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.serving.contestants import Contestant
from benchmarks.serving.material import Material
from benchmarks.serving.rounds import HEADLINE, Plan, load, started

STEP = 10_000  # requests between two lines
WARM_UP = 0.2  # share of the requests that fills caches and pools; not counted
CONFIDENCE_SIGMAS = 1.96
Point = tuple[int, float]


def soak(contestant: Contestant, material: Material, plan: Plan, total: int) -> dict[str, Any]:
    """Prints the resident memory every `STEP` requests, and gives the points with their slope.

    Of the service's own process: the queue's server holds more samples with every flagged request, as it should.
    """
    points: list[Point] = []
    done = 0
    with started(contestant, {}, material, plan) as (server, path):
        while done < total:
            done += int(load(server, path, material, f"clients={HEADLINE}", plan.seconds)["requests"])
            if done // STEP > (points[-1][0] // STEP if points else 0):
                points.append((done, server.resident_mb()))
                print(f"{done:>9,} requests: {points[-1][1]:.1f} MB", flush=True)
    settled = [point for point in points if point[0] >= WARM_UP * total]
    slope, margin = slope_per_100k(settled)
    return {"points": points, "settled": len(settled), "mb_per_100k": slope, "margin": margin}


def slope_per_100k(points: Sequence[Point]) -> tuple[float, float]:
    """MB per 100,000 requests by least squares, and half its 95 % interval as if the points were independent."""
    at, mb = (np.array(column, np.float64) for column in zip(*points, strict=True))
    at = (at - at.mean()) / 1e5
    slope = float(at @ (mb - mb.mean()) / (at @ at))
    rest = mb - mb.mean() - slope * at
    return slope, CONFIDENCE_SIGMAS * math.sqrt(float(rest @ rest) / max(len(points) - 2, 1) / float(at @ at))
