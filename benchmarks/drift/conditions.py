"""The runs of the benchmark: quiet days, on which every alert is false, and changes, which should be found soon."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.drift.sequences import Autoregressive, Clips, Independent, Sequence
from benchmarks.drift.worlds import DAY_S, Counted, Floats, References, Shift, Traffic, Valued

SIGNALS = 7  # as many as are watched: score, OOD score and five of the image
START_S = 1_700_006_400 // DAY_S * DAY_S  # a midnight, unix seconds
HOUR_S = 3600.0

MakeSequence = Callable[[np.random.Generator, tuple[int, int]], Sequence]


@dataclass(frozen=True, slots=True)
class World:
    """Traffic of one kind. sequence: of values; None: independent, drawn as counts."""

    title: str
    per_s: float
    sequence: MakeSequence | None = None
    cycle: float = (
        0.0  # amplitude of score and OOD score over a day, in sd; image signals swing by 1 sd if there is one
    )
    mismatch: float = 0.0  # of all signals against their reference, in sd

    def rhythm(self, signals: int) -> Shift:
        swing = np.ones(signals) * (self.cycle > 0)
        swing[:2] = self.cycle
        return lambda at: swing * np.sin(2 * np.pi * at / DAY_S)

    def traffic(self, rng: np.random.Generator, deployments: int, signals: int, change: Shift) -> Traffic:
        """With references of its own, drawn without mismatch and change."""
        rhythm = self.rhythm(signals)

        def shift(at: float) -> Floats:
            return rhythm(at) + self.mismatch + change(at)

        references = References.draw(rng, deployments, rhythm)
        if self.sequence is None:
            return Counted(references, rng, self.per_s, shift)
        return Valued(references, self.sequence(rng, (deployments, signals)), self.per_s, shift)


@dataclass(frozen=True, slots=True)
class Quiet:
    """Days without any change. signals: three, for speed: the bound on false alarms is that of their average."""

    world: World
    deployments: int = 200
    days: int = 5
    step_s: float = 120.0
    signals: int = 3
    rivals: int = 0  # deployments on which the rivals run as well


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the scores alone after four hours, in mid-day or at the restart of evidence."""

    world: World
    score: float = 0.0  # sd of log loss
    ood_score: float = 0.0
    at_restart: bool = False
    deployments: int = 100
    horizon: int = 20_000  # images after the change
    rivals: int = 0

    @property
    def at_s(self) -> float:
        return START_S + (DAY_S if self.at_restart else 8 * HOUR_S)


def clips(sources: int = 1, every: int = 1) -> MakeSequence:
    return lambda rng, shape: Clips(rng, shape, sources, every)


INDEPENDENT = World("independent", 1.0)
VALUES = World("independent", 1.0, Independent)
AR = World("AR(.9)", 1.0, Autoregressive)
CLIPS = World("clips of 5-30 repeats, no source header", 1.0, clips())
THINNED = World("clips of 5-30 repeats from 10 cameras, source header", 1.0, clips(10, 10))
IN_TURN = World("clips of 5-30 repeats, 50 cameras in turn, no header", 1.0, clips(50))
SMALL_CYCLE = World("daily cycle, loss ±.1 sd, images ±1 sd", 10.0, cycle=0.1)
LARGE_CYCLE = World("daily cycle, loss ±.3 sd, images ±1 sd", 10.0, cycle=0.3)
MISMATCH = World("independent, all signals +.1 sd off the reference", 10.0, mismatch=0.1)

QUIET = {
    "independent, 1/s": Quiet(INDEPENDENT),
    "independent, 10/s": Quiet(World("independent", 10.0), step_s=300),
    "independent, 100/s": Quiet(World("independent", 100.0), step_s=300),
    "AR, 1/s": Quiet(AR, rivals=20),
    "AR, 10/s": Quiet(World("AR(.9)", 10.0, Autoregressive), days=1),
    "clips, 1/s": Quiet(CLIPS, rivals=20),
    "clips with header, 1/s": Quiet(THINNED, rivals=20),
    "AR, 1/s, seven signals": Quiet(AR, days=1, signals=SIGNALS),
    "clips, 1/s, seven signals": Quiet(CLIPS, days=1, signals=SIGNALS),
    "clips in turn, 1/s": Quiet(IN_TURN, step_s=600),
    "small cycle, 10/s": Quiet(SMALL_CYCLE, step_s=600),
    "large cycle, 10/s": Quiet(LARGE_CYCLE, step_s=600),
    "mismatch, 10/s": Quiet(MISMATCH, step_s=600),
    "independent, rivals": Quiet(VALUES, deployments=20, rivals=20),
    "small cycle, rivals": Quiet(World("daily cycle", 1.0, Independent, cycle=0.1), deployments=20, rivals=20),
}
CHANGES = {
    "+.5 sd, independent, 1/s": Change(VALUES, 0.5, deployments=200, rivals=50),
    "+.5 sd, independent, 10/s": Change(World("independent", 10.0), 0.5, deployments=200),
    "+.5 sd, independent, 100/s": Change(World("independent", 100.0), 0.5),
    "+.5 sd, independent, 1/s, at the restart": Change(INDEPENDENT, 0.5, at_restart=True),
    "+.2 sd, independent, 1/s": Change(VALUES, 0.2, rivals=50),
    "+.2 sd, independent, 10/s": Change(World("independent", 10.0), 0.2),
    "+.2 sd, independent, 1/s, at the restart": Change(INDEPENDENT, 0.2, at_restart=True),
    "+.5 sd, AR, 1/s": Change(AR, 0.5, rivals=50),
    "+.5 sd, clips, 1/s": Change(CLIPS, 0.5, rivals=50),
    "OOD score +1 sd and loss -.2 sd, 1/s": Change(INDEPENDENT, -0.2, ood_score=1.0),
}
