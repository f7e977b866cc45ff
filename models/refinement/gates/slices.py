"""The gate on parts of traffic: no camera and no joint becomes worse while the whole becomes better."""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from models.contract.gate_report import GateResult
from models.contract.loss_definition import KeypointLoss
from models.refinement.gates.answers import finite, not_asked, percent
from models.refinement.gates.attempts import LEVEL, holm
from models.refinement.gates.gain import Judging
from models.refinement.gates.material import Array
from models.refinement.gates.paired import Pairs, excess, relative_change

GATE: Final = "slices"
FEWEST = 50  # labels of a slice
MARGIN = 0.03


def slices(judging: Judging) -> GateResult:
    """Each source and each joint with `FEWEST` judging labels or more."""
    return judge_slices(dict(_slices(judging)))


def judge_slices(found: Mapping[str, Pairs]) -> GateResult:
    """Fails if any slice is proven to be worse than `MARGIN`: by Holm, a false alarm about any has at most `LEVEL`."""
    if not found:
        return not_asked(GATE, f"No source and no joint has {FEWEST} judging labels.")
    names = list(found)
    worse = dict(zip(names, holm([excess(found[name], MARGIN).p_value() for name in names]), strict=True))
    changes = {name: relative_change(found[name], LEVEL / len(names)) for name in names}
    worst = max(names, key=lambda name: (worse[name], changes[name].estimate))
    change, pairs = changes[worst], found[worst]
    interval = f"{percent(change.estimate)} ({percent(change.low)} to {percent(change.high)}, {len(pairs)} labels)"
    bad = [name for name in names if worse[name]]
    verdict = f"worse by more than {percent(MARGIN)}: {', '.join(bad)[:200]}" if bad else "none is proven to be worse"
    return GateResult(
        gate=GATE,
        outcome="failed" if bad else "passed",
        sentence=f"Of {len(names)} sources and joints {verdict}; the worst is {worst[:60]} with {interval}.",
        limit=MARGIN,
        labels=len(pairs),
        alpha=LEVEL / len(names),
        **finite(estimate=change.estimate, low=change.low, high=change.high),
    )


def _slices(judging: Judging) -> Iterator[tuple[str, Pairs]]:
    rows, inputs = judging.rows(), judging.material.inputs
    groups = np.array([row.group for row in rows], np.str_)
    whole = Pairs.of(judging.losses(inputs.live), judging.losses(inputs.candidate), groups)
    sources = np.array([row.source or "" for row in rows], np.str_)
    for source in np.unique(sources[sources != ""]):
        if (sources == source).sum() >= FEWEST:
            yield f"source {source}", whole.rows(sources == source)
    for name, live, candidate in _joints(judging):
        there = np.isfinite(live) & np.isfinite(candidate)
        if there.sum() >= FEWEST:
            yield name, Pairs.of(live[there], candidate[there], groups[there])


def _joints(judging: Judging) -> Iterator[tuple[str, Array, Array]]:
    """The losses of each joint, where the manifest says how they are computed."""
    material = judging.material
    definition = material.manifest.loss.definition
    if not isinstance(definition, KeypointLoss) or not judging.labels:
        return
    live, candidate = (
        np.concatenate([definition.each(preds, targets) for preds, targets in judging.predictions(folder)])
        for folder in (material.inputs.live, material.inputs.candidate)
    )
    for joint, name in enumerate(material.manifest.task.names):
        yield name, live[:, joint], candidate[:, joint]
