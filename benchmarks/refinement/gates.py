"""How often do the gates let a worse candidate through, and how many labels show that one is better?

Run `python -m benchmarks.refinement.gates --pose-data DIR`.

Each round draws labels and a test split, and asks the gates `forgetting`, `gain: mean` and `gain: worst decile` at the
level of a first attempt. Exchanged sides are put into real labels of pose. It writes gates.json and gates.md.
"""

import platform
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import scipy
import typer
from rich.progress import track

from benchmarks.refinement.exchanged import exchanged_sides
from benchmarks.refinement.gates_report import markdown
from benchmarks.refinement.worlds import Change, World, better_tail, real_losses, ruined, same_tail, worse
from models.refinement.gates.attempts import LEVEL, alpha_of
from models.refinement.gates.forgetting import MARGIN
from models.refinement.gates.gain import MEAN_MARGIN
from models.refinement.gates.paired import FEWEST_GROUPS, excess
from models.tasks.digits import Digits
from models.tasks.pose import Pose

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "refinement" / "results"
ROUNDS = 500
LABELS = (100, 200, 400, 800, 1600)
CORRELATIONS = (0.9, 0.98)
CHANGES: dict[str, Change] = {
    "3 % worse": worse,
    "3 % worse, by rare images": ruined,
    "unchanged": same_tail,
    "worst decile 5 % better": better_tail,
}


def main(
    pose_data: Annotated[Path, typer.Option(help="Folder of the pose photographs.")],
    out: Annotated[Path, typer.Option(help="Folder for gates.json and gates.md.")] = RESULTS,
) -> None:
    """Measure the gates on labels whose truth is known."""
    digits, pose = Digits(), Pose(pose_data)
    worlds = dict(
        _worlds("digits", real_losses(ROOT / "bundles" / "digits" / "1", digits), len(digits.sources("test")))
    )
    worlds |= _worlds("pose", real_losses(ROOT / "bundles" / "pose" / "1", pose), len(pose.sources("test")))
    cells = [(name, change) for name in worlds for change in CHANGES]
    rows = [
        {"world": name, "change": change, "alpha": alpha_of(1), **measure(worlds[name], labels, CHANGES[change])}
        for name, change in track(cells, "rounds")
        for labels in LABELS
        if labels // worlds[name].group_size >= FEWEST_GROUPS
    ]
    record = {
        "command": "python -m benchmarks.refinement.gates --pose-data DIR",
        "rounds": ROUNDS,
        "rows": rows,
        "sides": exchanged_sides(ROOT / "bundles" / "pose" / "1", pose),
        "versions": {"numpy": np.__version__, "python": platform.python_version(), "scipy": scipy.__version__},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "gates.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    (out / "gates.md").write_text(markdown(record))
    print(markdown(record))


def _worlds(name: str, losses: Any, test_images: int) -> dict[str, World]:
    plain = World(losses, test_images, CORRELATIONS[0])
    found = {f"{name}, correlation {one:g}": replace(plain, correlation=one) for one in CORRELATIONS}
    return found | {
        f"{name}, correlation {CORRELATIONS[0]:g}, grouped and weighted": replace(plain, group_size=2, weighted=True)
    }


def measure(world: World, labels: int, change: Change, rounds: int = ROUNDS) -> dict[str, Any]:
    """How many candidates of `rounds` pass each gate, and all of them, with the binomial interval of the latter."""
    rng = np.random.default_rng(labels)
    outcomes = np.array([_passes(world, labels, change, rng) for _ in range(rounds)])
    counts = outcomes.sum(axis=0).tolist()
    promoted = int(outcomes.all(axis=1).sum())
    interval = scipy.stats.binomtest(promoted, rounds).proportion_ci()
    return {
        "labels": labels,
        **dict(zip(("forgetting", "mean", "tail"), counts, strict=True)),
        "gain": int(outcomes[:, 1:].all(axis=1).sum()),
        "promoted": promoted,
        "low": float(interval.low),
        "high": float(interval.high),
    }


def _passes(world: World, labels: int, change: Change, rng: np.random.Generator) -> tuple[bool, bool, bool]:
    pairs, frozen = world.labels(rng, labels, change), world.test_split(rng, change)
    return (
        excess(frozen, MARGIN).upper(LEVEL) < 0,
        excess(pairs, MEAN_MARGIN).upper(alpha_of(1)) < 0,
        excess(pairs.tails(), 0.0).upper(alpha_of(1)) < 0,
    )


if __name__ == "__main__":
    typer.run(main)
