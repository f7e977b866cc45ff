"""The comparison of failure scores on digits: `python -m benchmarks.detection.digits`.

The trunk of the shipped bundle sees each split once; the heads that read feature maps, the heteroscedastic
one and both distances score the test split. Digits have no heatmaps, so what reads those is missing. Figures and
intervals are those of the pose comparison, redrawing whole digits, as the canvases of one are not independent.
Writes digits.json and digits.md.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.detection.baselines import LocalScaleHead, gaussian_likelihood, nearest_distance
from benchmarks.detection.compare import Truth, ahead, figures
from benchmarks.detection.record import mean_and_worst
from benchmarks.detection.report import digits_tables
from benchmarks.detection.rivals import Scores
from benchmarks.objectives.heads import trunk_of
from models.calibration.ood import fit_gaussian
from models.calibration.references import CALIBRATION_SEED
from models.evaluation.bundle import TEST_SEED
from models.networks.loss_head import Architecture, LossHeadConfig, build_loss_head
from models.networks.regressors import KeypointNet
from models.objectives.learning_loss import Objective
from models.tasks.digits import Digits
from models.tasks.protocol import Examples
from models.training.config import TrainingConfig
from models.training.loop import Plan, Trainer, fit, reproducible
from models.training.loss_head import Observations, observe, train_loss_head

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "detection" / "results"
REDRAWS, TINY_REDRAWS = 500, 20
SHIPPED = "convolutional head, LearningLoss++"
HEADS: Mapping[str, tuple[Architecture, Objective]] = {
    SHIPPED: ("convolutional", "learning_loss_pp"),
    "convolutional head, weighted LearningLoss++": ("convolutional", "learning_loss_pp_weighted"),
    "convolutional head, listwise": ("convolutional", "listwise"),
    "convolutional head, Learning Loss": ("convolutional", "learning_loss"),
    "convolutional head, log-loss regression": ("convolutional", "log_loss"),
    "convolutional head, Gamma likelihood": ("convolutional", "gamma"),
    "pooled head, LearningLoss++": ("pooled", "learning_loss_pp"),
    "pooled head, Learning Loss": ("pooled", "learning_loss"),
}
HETEROSCEDASTIC = "heteroscedastic head"

Scorer = Callable[[Observations], Scores]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a scorer is made from."""

    trunk: KeypointNet
    task: Digits
    examples: Examples  # of the head split
    seen: Observations  # the same as the trunk sees them
    config: TrainingConfig


def main(
    bundle: Annotated[Path, typer.Option(help="Whose trunk.")] = ROOT / "bundles" / "digits" / "1",
    seeds: Annotated[int, typer.Option(min=1, help="Heads of each kind.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder for digits.json and digits.md.")] = RESULTS,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    tiny: Annotated[bool, typer.Option(help="Train for seconds, to try the code.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Trains, measures, prints the tables and writes the results."""
    if tiny and out == RESULTS:
        raise SystemExit("a tiny run is no result: give --out another folder")
    torch.set_num_threads(threads)
    task, config = Digits(), TrainingConfig.tiny() if tiny else TrainingConfig()
    trunk = trunk_of(bundle, task)
    learn = task.examples("head", config.head_views, config.seed)
    setting = Setting(trunk, task, learn, observe(trunk, learn, task), config)
    tested = task.examples("test", 1 if tiny else task.test_views, TEST_SEED)
    test = observe(trunk, tested, task)
    calibration = observe(
        trunk, task.examples("calibration", 1 if tiny else task.calibration_views, CALIBRATION_SEED), task
    )
    runs: dict[str, list[tuple[Scores, Scores]]] = {}
    for name, makers in _makers(setting, seeds).items():
        print(name, file=sys.stderr, flush=True)
        runs[name] = [(scorer(test), scorer(calibration)) for scorer in (make() for make in makers)]
    record = _record(runs, test.losses, calibration.losses, tested.source, TINY_REDRAWS if tiny else REDRAWS)
    record["conditions"] = {
        "bundle": "/".join(bundle.parts[-2:]),
        "data_fingerprint": task.fingerprint,
        "head_seeds": seeds,
        "test_canvases": len(test.losses),
        "test_digits": len(np.unique(tested.source)),
        "failure_level": task.loss.failure_level,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "digits.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    (out / "digits.md").write_text(digits_tables(record))
    print(digits_tables(record))


def _makers(setting: Setting, seeds: int) -> dict[str, list[Callable[[], Scorer]]]:
    """By name, one maker of a scorer for every seed."""
    makers: dict[str, list[Callable[[], Scorer]]] = {
        name: [partial(_head, *what, setting, seed) for seed in range(seeds)] for name, what in HEADS.items()
    }
    makers[HETEROSCEDASTIC] = [partial(_heteroscedastic, setting, seed) for seed in range(seeds)]
    makers["Mahalanobis distance"] = [partial(_mahalanobis, setting)]
    makers["nearest neighbours"] = [partial(_nearest, setting)]
    return makers


def _mahalanobis(setting: Setting) -> Scorer:
    gaussian = fit_gaussian(setting.seen.embeddings.numpy())
    return lambda seen: Scores(gaussian.distance(seen.embeddings.numpy()).astype(np.float64))


def _nearest(setting: Setting) -> Scorer:
    reference = setting.seen.embeddings.numpy()
    return lambda seen: Scores(nearest_distance(seen.embeddings.numpy(), reference))


def _head(architecture: Architecture, objective: Objective, setting: Setting, seed: int) -> Scorer:
    with reproducible(seed):
        head = build_loss_head(LossHeadConfig(setting.trunk.map_channels, architecture))
    train_loss_head(head, setting.seen, replace(setting.config, seed=seed, objective=objective, head=architecture))

    def score(seen: Observations) -> Scores:
        with torch.no_grad():
            return Scores(head(seen.maps).double().numpy())

    return score


def _heteroscedastic(setting: Setting, seed: int) -> Scorer:
    """The frozen trunk's error scale, learned from the maps at the predicted places; score: its mean."""
    local = _local(setting.seen, setting.task)
    errors = torch.from_numpy(np.linalg.norm(setting.seen.predictions - setting.examples.targets, axis=2)).float()
    with reproducible(seed):
        head = LocalScaleHead(local.shape[2], local.shape[1])
    plan = Plan("heteroscedastic", len(local), setting.config.head_epochs, 32, 2e-3, 1e-2)

    def loss(model: torch.nn.Module, columns: Tensor, wrong: Tensor) -> Tensor:
        return gaussian_likelihood(model(columns), wrong)

    with reproducible(seed):
        fit(head, lambda _epoch: (local, errors), loss, plan, Trainer.start(), lambda _done, _total: None)

    def score(seen: Observations) -> Scores:
        with torch.no_grad():
            return Scores(head(_local(seen, setting.task)).double().exp().mean(dim=1).numpy())

    return score


def _local(seen: Observations, task: Digits) -> Tensor:
    """The maps at each predicted place, [n, k, channels]."""
    canvas = torch.tensor([task.preprocessing.width, task.preprocessing.height])
    places = (2 * torch.from_numpy(seen.predictions) / canvas - 1).unsqueeze(2)
    sampled = [functional.grid_sample(one, places, align_corners=False) for one in seen.maps]
    return torch.cat(sampled, dim=1).squeeze(3).transpose(1, 2).contiguous()


def _record(
    runs: dict[str, list[tuple[Scores, Scores]]],
    losses: NDArray[np.float64],
    calibration_losses: NDArray[np.float64],
    sources: NDArray[np.int64],
    redraws: int,
) -> dict[str, Any]:
    """Everything that the page shows, but for the conditions."""
    truth = Truth(losses, losses[:, None], calibration_losses, Digits.loss.failure_level)
    rows = {name: [figures(test, kept, truth) for test, kept in seeds] for name, seeds in runs.items()}
    ends = {"random": np.zeros_like(losses), "oracle": losses}
    rows |= {name: [figures(Scores(scores), None, truth)] for name, scores in ends.items()}
    return {
        "shipped": SHIPPED,
        "figures": {name: mean_and_worst(seeds) for name, seeds in rows.items()},
        "ahead": ahead(
            SHIPPED, {name: [[test for test, _ in seeds]] for name, seeds in runs.items()}, [losses], redraws, sources
        ),
    }


if __name__ == "__main__":
    typer.run(main)
