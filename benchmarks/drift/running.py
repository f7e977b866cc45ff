"""Runs one condition and returns its figures: how often what rang on quiet days, how soon what found a change."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift.conditions import HOUR_S, SIGNALS, START_S, Change, Quiet
from benchmarks.drift.rivals import Rival, rivals
from benchmarks.drift.watching import Watching
from benchmarks.drift.worlds import DAY_S, Floats, Traffic

WARM_UP_S = 4 * HOUR_S
FLUSH_S = 5.0
FINE_S = 600.0  # after a change at flushes of 5 s; later, a minute is fine enough

Ticked = Callable[[float], None]  # told the share of the run that was done


def run_quiet(name: str, condition: Quiet, tick: Ticked) -> dict[str, Any]:
    """A day counts once as one with an alert (or a warning), however often it goes on and off."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    traffic = condition.world.traffic(
        rng, condition.deployments, condition.signals, lambda _: np.zeros(condition.signals)
    )
    watching, others = Watching(traffic.references), _rivals(traffic, condition.rivals)
    warned, alerted = (np.zeros((condition.days, condition.deployments), bool) for _ in range(2))
    for at in np.arange(START_S, START_S + condition.days * DAY_S, condition.step_s).tolist():
        day = int((at - START_S) // DAY_S)
        _advance(traffic, watching, others, at, condition.step_s)
        warned[day] |= watching.warns
        alerted[day] |= watching.alerts
        tick(condition.step_s / (condition.days * DAY_S))
    per_day = condition.world.per_s * DAY_S
    return {
        "deployments": condition.deployments,
        "days": condition.days * condition.deployments,
        "alert_days": int(alerted.sum()),
        "warning_days": int(warned.sum()),
        "alerts_by_day": alerted.sum(axis=1).tolist(),
        "warnings_by_day": warned.sum(axis=1).tolist(),
        "design_effect": _design_effects(watching),
        "rivals": {who: _quiet_of(ones, per_day, condition.days) for who, ones in others.items()},
    }


def run_change(name: str, condition: Change, tick: Ticked) -> dict[str, Any]:
    """Delays in images: until the first warning and the first alert after the change, with those of the rivals."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    size = np.zeros(SIGNALS)
    size[:2] = condition.score, condition.ood_score
    traffic = condition.world.traffic(rng, condition.deployments, SIGNALS, lambda at: size * (at >= condition.at_s))
    watching, others = Watching(traffic.references), _rivals(traffic, condition.rivals)
    steps = list(_steps(condition))
    found = {"warning": np.full(condition.deployments, np.inf), "alert": np.full(condition.deployments, np.inf)}
    for at, lasts_s in steps:
        _advance(traffic, watching, others, at, lasts_s)
        images = (at + lasts_s - condition.at_s) * condition.world.per_s
        for kind, rings in (("warning", watching.warns), ("alert", watching.alerts)):
            early = np.isinf(found[kind]) & rings
            found[kind][early] = images if images > 0 else -1
        tick(1 / len(steps))
    before = round(WARM_UP_S * condition.world.per_s)
    return {
        "deployments": condition.deployments,
        "horizon": condition.horizon,
        **{kind: _delays(delays) for kind, delays in found.items()},
        "rivals": {who: _delays(_found_by(ones, before)) for who, ones in others.items()},
    }


def _steps(condition: Change) -> Iterator[tuple[float, float]]:
    """When each step begins and how long it lasts: minutes, and flushes right after the change."""
    end_s = condition.at_s + condition.horizon / condition.world.per_s
    at = condition.at_s - WARM_UP_S
    while at < end_s:
        lasts_s = FLUSH_S if 0 <= at - condition.at_s < FINE_S else 60.0
        yield at, lasts_s
        at += lasts_s


def _advance(traffic: Traffic, watching: Watching, others: dict[str, list[Rival]], at: float, lasts_s: float) -> None:
    """A step belongs to the day in which it begins, so it ends a little early."""
    step = traffic.step(at, lasts_s)
    watching.update(step, at, at + lasts_s - 1e-3)
    for ones in others.values():
        for one, scores in zip(ones, step.scores if step.scores is not None else (), strict=False):
            one.update(scores)


def _rivals(traffic: Traffic, deployments: int) -> dict[str, list[Rival]]:
    sets = [rivals(reference) for reference in traffic.references.scores[:deployments]]
    return {who: [one[who] for one in sets] for who in (sets[0] if sets else ())}


def _design_effects(watching: Watching) -> list[float]:
    """Median over deployments, of each signal, at the end."""
    bins = watching.references.bins
    return [round(float(np.median(one.design_effect(bins, 1.0))), 2) for one in watching.detector.signals.values()]


def _quiet_of(ones: list[Rival], per_day: float, days: int) -> dict[str, int]:
    with_alarm = [len({int((image - 1) // per_day) for image in one.alarms}) for one in ones]
    return {"days": days * len(ones), "alert_days": sum(with_alarm), "alarms": sum(len(one.alarms) for one in ones)}


def _found_by(ones: list[Rival], before: int) -> Floats:
    """Images until each one's first alarm after the change; inf: none."""
    return np.array([min((image - before for image in one.alarms if image > before), default=np.inf) for one in ones])


def _delays(delays: NDArray[np.float64]) -> dict[str, Any]:
    """Quartiles over those deployments in which nothing rang before the change; None: not within the horizon."""
    fair = delays[delays > 0]
    quartiles = np.quantile(fair, [0.25, 0.5, 0.75], method="higher") if len(fair) else np.full(3, np.inf)
    return {
        "quartiles": [float(q) if np.isfinite(q) else None for q in quartiles],
        "found": round(float(np.isfinite(fair).mean()), 4) if len(fair) else 0.0,
        "rang_before": int((delays <= 0).sum()),
    }
