"""LearningLoss++ beside Learning Loss on the digits test split, on one trunk: `python -m benchmarks.objectives.heads`.

The trunk is that of the shipped bundle and its features are cached; every loss head is trained from
several seeds with each objective, a seed giving both the same first weights and the same batches. Random
order and the true losses as scores are the ends. Writes objectives.json and objectives.md.
"""

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import orjson
import torch
import typer
from numpy.typing import NDArray
from rich.progress import track

from models.contract.bundle import read_manifest
from models.evaluation import metrics
from models.evaluation.bundle import TEST_SEED
from models.networks.loss_head import Architecture, LossHeadConfig, build_loss_head
from models.networks.regressors import KeypointNet, KeypointNetConfig
from models.objectives.learning_loss import Objective
from models.publishing.export import state_dict
from models.tasks.digits import Digits
from models.training.config import TrainingConfig
from models.training.loop import reproducible
from models.training.loss_head import Observations, observe, train_loss_head

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "objectives" / "results"
REDRAWS, TINY_REDRAWS = 500, 20
HEAD_SETTINGS = ("head_views", "head_epochs", "head_learning_rate", "batch_size", "margin")
TITLES = {
    "rank_correlation": "rank correlation",
    "rank_correlation_within": "within digit class",
    "failure_auroc": "AUROC of failures",
    "aurc": "AURC, px",
    "one_minus_naurc": "1 - nAURC",
    "risk_at_80_coverage": "risk at 80 % coverage, px",
}
OBJECTIVES: dict[Objective, str] = {"learning_loss": "Learning Loss", "learning_loss_pp": "LearningLoss++"}

Array = NDArray[np.float64]
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Test:
    """The test split as the frozen trunk answers it: columns [n]."""

    losses: Array
    strata: NDArray[np.int64]
    sources: NDArray[np.int64]
    failure_level: float

    def figures(self, scores: Array) -> Figures:
        """scores: [n], higher is worse."""
        return {
            "rank_correlation": metrics.rank_correlation(scores, self.losses),
            "rank_correlation_within": metrics.rank_correlation_within(scores, self.losses, self.strata),
            "failure_auroc": metrics.auroc(scores, self.losses > self.failure_level),
            "aurc": metrics.aurc(scores, self.losses),
            "one_minus_naurc": 1 - metrics.normalised_aurc(scores, self.losses),
            "risk_at_80_coverage": metrics.risk_at_coverage(scores, self.losses, 0.8),
        }

    def rows(self, rows: NDArray[np.int64]) -> "Test":
        return Test(self.losses[rows], self.strata[rows], self.sources[rows], self.failure_level)

    def redraws(self, rng: np.random.Generator, number: int) -> Iterator[NDArray[np.int64]]:
        """Rows of that many draws of whole sources, as the canvases of one image are not independent."""
        members = [np.flatnonzero(self.sources == source) for source in np.unique(self.sources)]
        for _ in range(number):
            yield np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])


def main(
    bundle: Annotated[Path, typer.Option(help="Whose trunk.")] = ROOT / "bundles" / "digits" / "1",
    seeds: Annotated[int, typer.Option(min=5, help="Loss heads of each kind.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder for objectives.json and objectives.md.")] = RESULTS,
    tiny: Annotated[bool, typer.Option(help="Train for seconds, to try the code; give --out too.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Trains, measures, prints a table and writes the results."""
    if tiny and out == RESULTS:
        raise SystemExit("a tiny run is no result: give --out another folder")
    config, redraws = (TrainingConfig.tiny(), TINY_REDRAWS) if tiny else (TrainingConfig(), REDRAWS)
    task = Digits()
    trunk = trunk_of(bundle, task)
    head_split = observe(trunk, task.examples("head", views=config.head_views, seed=config.seed), task)
    examples = task.examples("test", views=1 if tiny else task.test_views, seed=TEST_SEED)
    test_split = observe(trunk, examples, task)
    test = Test(test_split.losses, examples.stratum, examples.source, task.loss.failure_level)
    scores = _train_heads(trunk.map_channels, head_split, test_split, config, seeds)
    record = {
        "command": f"python -m benchmarks.objectives.heads --seeds {seeds}",
        "trunk": "/".join(bundle.parts[-2:]),
        **_conditions(task, config, seeds, test),
        "ends": {"random order": _random_figures(test), "oracle": test.figures(test.losses)},
        "heads": {name: [test.figures(row) for row in rows] for name, rows in scores.items()},
        "differences": {head: _differences(test, scores, head, redraws) for head in get_args(Architecture)},
    }
    text = _markdown(record)
    print(text)
    out.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (out / "objectives.json").write_bytes(orjson.dumps(record, option=options))
    (out / "objectives.md").write_text(text)


def _conditions(task: Digits, config: TrainingConfig, seeds: int, test: Test) -> dict[str, Any]:
    return {
        "task": task.task.name,
        "data_fingerprint": task.fingerprint,
        "objectives": list(OBJECTIVES),
        "heads_compared": list(get_args(Architecture)),
        "head_training": {key: value for key, value in asdict(config).items() if key in HEAD_SETTINGS},
        "head_data_seed": config.seed,
        "head_seeds": list(range(seeds)),
        "test": {"images": len(np.unique(test.sources)), "canvases": test.losses.size, "views_seed": TEST_SEED},
        "failure_level_px": test.failure_level,
        "software": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def trunk_of(bundle: Path, task: Digits) -> KeypointNet:
    """The network of a digits bundle, from its weights. Exits when it learned from other digits."""
    if read_manifest(bundle).provenance.data_fingerprint != task.fingerprint:
        raise SystemExit(f"{bundle} was trained on other data than these digits: train it again")
    trunk = KeypointNet(KeypointNetConfig())
    trunk.load_state_dict(state_dict((bundle / "model.onnx").read_bytes(), "regressor"))
    return trunk


def _train_heads(
    channels: tuple[int, ...], head_split: Observations, test_split: Observations, config: TrainingConfig, seeds: int
) -> dict[str, Array]:
    """Scores of the test split by "<architecture> <objective>": [seeds, n]."""
    scores: dict[str, list[Array]] = {}
    runs = list(product(get_args(Architecture), OBJECTIVES, range(seeds)))
    for architecture, objective, seed in track(runs, "Training loss heads"):
        with reproducible(seed):
            head = build_loss_head(LossHeadConfig(channels, architecture))
        train_loss_head(head, head_split, replace(config, seed=seed, objective=objective, head=architecture))
        with torch.no_grad():
            row = head(test_split.maps).numpy().astype(np.float64)
        scores.setdefault(f"{architecture} {objective}", []).append(row)
    return {name: np.stack(rows) for name, rows in scores.items()}


def _random_figures(test: Test) -> Figures:
    """Equal scores: the expectation over all orders. No correlation is defined there; its expectation is 0."""
    figures = test.figures(np.zeros(test.losses.size))
    return figures | {"rank_correlation": 0.0, "rank_correlation_within": 0.0}


def _differences(test: Test, scores: dict[str, Array], head: Architecture, redraws: int) -> dict[str, dict[str, float]]:
    """LearningLoss++ less Learning Loss of the same seed: mean, and a 95 % interval over seeds and sources."""
    first, second = scores[f"{head} learning_loss"], scores[f"{head} learning_loss_pp"]
    means = _mean_difference(test, first, second)
    rng = np.random.default_rng(0)
    drawn = []
    for rows in track(list(test.redraws(rng, redraws)), f"Interval, {head} head"):
        chosen = rng.integers(0, len(first), len(first))
        drawn.append(_mean_difference(test.rows(rows), first[chosen][:, rows], second[chosen][:, rows]))
    low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0)
    return {
        key: {"mean": float(mean), "low": float(a), "high": float(b)}
        for key, mean, a, b in zip(TITLES, means, low, high, strict=True)
    }


def _mean_difference(test: Test, first: Array, second: Array) -> Array:
    """first, second: scores [seeds, n] -> mean difference of each of the figures, second less first."""
    pairs = [(test.figures(a), test.figures(b)) for a, b in zip(first, second, strict=True)]
    mean: Array = np.mean([[b[key] - a[key] for key in TITLES] for a, b in pairs], axis=0)
    return mean


def _markdown(record: dict[str, Any]) -> str:
    ends = record["ends"]
    first = _row("", "random order", *(f"{ends['random order'][key]:.3f}" for key in TITLES))
    last = _row("", "oracle", *(f"{ends['oracle'][key]:.3f}" for key in TITLES))
    return "\n".join(
        [
            _introduction(record),
            *(*_table_head("head", "objective"), first, *_head_rows(record["heads"]), last),
            "\nLearningLoss++ less Learning Loss of the same seed; 95 % intervals redraw seeds and test images:\n",
            *(*_table_head("head"), *_difference_rows(record["differences"])),
            "",
        ]
    )


def _introduction(record: dict[str, Any]) -> str:
    test, head, seeds = record["test"], record["head_training"], len(record["head_seeds"])
    trunk = f"the trunk of bundle {record['trunk']}"
    schedule = f"{head['head_views']} canvases of each head image, {head['head_epochs']} epochs"
    settings = f"learning rate {head['head_learning_rate']:g}, margin {head['margin']:g}"
    return "\n".join(
        (
            "# LearningLoss++ beside Learning Loss on digits",
            "",
            f"Made by `{record['command']}` on {test['canvases']} canvases of {test['images']} test images.",
            f"All heads read {trunk}, {seeds} seeds of each, and learn from the same features",
            f"by the same schedule: {schedule}, {settings}.",
            f"Mean ± standard deviation over seeds; a failure is a loss above {record['failure_level_px']:g} px.",
            "",
        )
    )


def _head_rows(heads: dict[str, list[Figures]]) -> Iterator[str]:
    for head, (objective, name) in product(get_args(Architecture), OBJECTIVES.items()):
        figures = np.array([[seed[key] for key in TITLES] for seed in heads[f"{head} {objective}"]])
        columns = zip(figures.mean(axis=0), figures.std(axis=0, ddof=1), strict=True)
        yield _row(head, name, *(f"{mean:.3f} ± {spread:.3f}" for mean, spread in columns))


def _difference_rows(differences: dict[str, dict[str, dict[str, float]]]) -> Iterator[str]:
    for head, row in differences.items():
        yield _row(head, *(f"{d['mean']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f})" for d in row.values()))


def _table_head(*first: str) -> list[str]:
    return [_row(*first, *TITLES.values()), "|" + "---|" * len(first) + "---:|" * len(TITLES)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(main)
