"""Losscast compared with the others: ratios within a round, then their median and range. Pure."""

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.contestants import FLOOR
from benchmarks.serving.rounds import HEADLINE

Cells = Mapping[str, Any]
Round = Mapping[str, Cells]  # by contestant
AT_MOST, AT_LEAST = True, False
BARE = "bare"  # Losscast with the network without the forecast


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int) -> str:
        """The median, and the lowest and the highest value."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one ratio. `of` gives it for one round; KeyError when something it needs was not measured."""

    material: str
    text: str
    at_most: bool
    bound: float
    of: Callable[[Round], float]
    limit: Callable[[Round], float] | None = None  # the ratio of the floor in the service's place

    def met(self, spread: Spread) -> bool:
        return spread.median <= self.bound if self.at_most else spread.median >= self.bound


def throughput(cells: Cells) -> float:
    """Requests per second, the best of the closed loops; of the floor, images."""
    return max(float(cell["per_s"]) for name, cell in cells.items() if name == FLOOR or name.startswith("clients="))


def cpu_ms(cells: Cells) -> float:
    """Processor time, in ms, of a request with `HEADLINE` clients; of the floor, of an image."""
    return float((cells.get(f"clients={HEADLINE}") or cells[FLOOR])["cpu_ms"])


def _faster_than(name: str, *peers: str) -> Callable[[Round], float]:
    return lambda found: throughput(found[name]) / max(throughput(found[peer]) for peer in peers)


def _throughput(material: str, text: str, bound: float, *peers: str) -> Target:
    ours, floors = _faster_than("losscast", *peers), _faster_than(FLOOR, *peers)
    return Target(material, f"throughput / {text}", AT_LEAST, bound, ours, floors)


def _cost_of(one: str, other: str) -> Callable[[Round], float]:
    return lambda found: cpu_ms(found[one]) / cpu_ms(found[other])


def _tail(found: Round) -> float:
    return float(found["losscast"]["poisson"]["p99_ms"] / found[FLOOR][FLOOR]["alone_ms"])


TARGETS = (
    Target("keypoints", "CPU per request / the floor's", AT_MOST, 1 / 0.93, _cost_of("losscast", FLOOR)),
    _throughput("keypoints", "mosec's", 0.97, "mosec"),
    _throughput("keypoints", "LitServe's", 1.3, "litserve"),
    _throughput("keypoints", "plain FastAPI's", 2.2, "fastapi"),
    Target("keypoints", "p99 at 70 % Poisson load / time of one image alone", AT_MOST, 7.0, _tail),
    Target("keypoints", "CPU per request / the same without detection", AT_MOST, 1.03, _cost_of("losscast", BARE)),
    _throughput("tiny", "mosec's", 0.85, "mosec"),
    Target(
        "tiny",
        "mosec's CPU per request / ours",
        AT_LEAST,
        0.85,
        _cost_of("mosec", "losscast"),
        _cost_of("mosec", FLOOR),
    ),
    _throughput("tiny", "that of the best of LitServe and BentoML", 10.0, "litserve", "bentoml"),
    _throughput("tiny", "plain FastAPI's", 4.0, "fastapi"),
)


def rounds_of(results: Mapping[str, Any], material: str) -> list[Round]:
    """The measurements with one material, round by round."""
    found: dict[str, dict[str, Cells]] = {}
    for name, cells in results["visits"].items():
        of, contestant, number = name.split("/")
        if of == material:
            found.setdefault(number, {})[contestant] = cells
    return [found[number] for number in sorted(found, key=int)]


def spread(rounds: Sequence[Round], figure: Callable[[Round], float]) -> Spread | None:
    """Over the rounds that have all the results it needs; None when there is no such round."""
    values = []
    for one in rounds:
        with contextlib.suppress(KeyError):
            values.append(figure(one))
    return Spread.of(values) if values else None
