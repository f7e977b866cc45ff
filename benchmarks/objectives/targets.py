"""What does the optimum of each objective estimate? `python -m benchmarks.objectives.targets`

Synthetic losses whose mean and whose shape are known at 64 places: Gamma, of the same mean with few large losses
or with many middling ones. Every place has a score of its own, so that no network stands between an objective and its
optimum; scores are learned in batches, and measured on fresh draws. Writes targets.json, .md and .png.
"""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import torch
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import track
from scipy import special, stats
from torch import Tensor

from models.evaluation import metrics
from models.objectives.learning_loss import OBJECTIVES, learning_loss_pp_weighted, listwise

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "objectives" / "results"
BATCH, EPOCHS, RATE = 32, 12, 0.05
DRAWS = 8192  # for training, and as many for the test
TITLES = {
    "aurc": "AURC",
    "one_minus_naurc": "1 - nAURC",
    "rank_correlation": "rank correlation, losses",
    "rank_of_mean": "rank correlation, E[l]",
    "off_mean": "off log E[l]",
    "off_log": "off E[log l]",
}
NAMES = {
    "learning_loss": "Learning Loss",
    "log_loss": "log-loss regression",
    "learning_loss_pp": "LearningLoss++",
    "learning_loss_pp_weighted": "LearningLoss++, mass-weighted",
    "weighted, fixed divisor": "LearningLoss++, mass-weighted, fixed divisor",
    "listwise": "listwise",
    "listwise, fixed divisor": "listwise, fixed divisor",
    "gamma": "Gamma likelihood",
}
ENDS = {"E[log l]": "E[log l] itself", "log E[l]": "log E[l] itself"}
BASE = "learning_loss_pp"

Array = NDArray[np.float64]
Figures = dict[str, float]
Function = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Places:
    """64 places: the law of the loss at each, Gamma(shape, mean)."""

    mean: Array  # [64], their average is 1
    shape: Array  # [64]

    @classmethod
    def grid(cls) -> "Places":
        mean, shape = np.meshgrid(np.exp(np.linspace(-1, 1, 8)), np.geomspace(0.3, 10, 8))
        return cls(mean.ravel() / mean.mean(), shape.ravel())

    @property
    def mean_log(self) -> Array:
        """E[log l], [64]."""
        exact: Array = np.log(self.mean) + special.digamma(self.shape) - np.log(self.shape)
        return exact

    def draw(self, rng: np.random.Generator, number: int) -> tuple[NDArray[np.int64], Array]:
        """Places [number], as often each, and a loss at each of them."""
        at = rng.permutation(np.resize(np.arange(self.mean.size), number))
        return at, rng.gamma(self.shape[at], self.mean[at] / self.shape[at])


def functions() -> dict[str, Function]:
    fixed: dict[str, Function] = {
        "weighted, fixed divisor": partial(learning_loss_pp_weighted, mean_loss=1.0),
        "listwise, fixed divisor": partial(listwise, mean_loss=1.0),
    }
    every: dict[str, Function] = {str(name): function for name, function in OBJECTIVES.items()}
    return {name: (every | fixed)[name] for name in NAMES}


def learn(function: Function, drawn: tuple[NDArray[np.int64], Array], seed: int, epochs: int) -> Array:
    """The scores [64] that minimise the objective over batches of 32, by Adam with a falling rate."""
    torch.manual_seed(seed)
    places, true = torch.from_numpy(drawn[0]), torch.from_numpy(drawn[1]).float()
    scores = torch.zeros(int(places.max()) + 1, requires_grad=True)
    optimizer = torch.optim.Adam([scores], RATE)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(places) // BATCH))
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(places)), BATCH):
            optimizer.zero_grad()
            function(scores[places[rows]], true[rows]).backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            rates.step()
    return scores.detach().numpy().astype(np.float64)


def figures(places: Places, scores: Array, at: NDArray[np.int64], losses: Array) -> Figures:
    """scores: [64]; off: the root mean square distance from a target, both less their mean."""
    return {
        "aurc": metrics.aurc(scores[at], losses),
        "one_minus_naurc": 1 - metrics.normalised_aurc(scores[at], losses),
        "rank_correlation": metrics.rank_correlation(scores[at], losses),
        "rank_of_mean": metrics.rank_correlation(scores, places.mean),
        "off_mean": float(np.std(scores - np.log(places.mean))),
        "off_log": float(np.std(scores - places.mean_log)),
    }


def main(
    seeds: Annotated[int, typer.Option(min=2, help="Draws of training and test data.")] = 8,
    epochs: Annotated[int, typer.Option(min=1, help="Through each training set.")] = EPOCHS,
    out: Annotated[Path, typer.Option(help="Folder for targets.json, targets.md and targets.png.")] = RESULTS,
) -> None:
    """Learns, measures, prints the table and writes the results."""
    torch.set_num_threads(1)
    places = Places.grid()
    learned: dict[str, list[Array]] = {name: [] for name in NAMES}
    measured: dict[str, list[Figures]] = {name: [] for name in (*NAMES, *ENDS)}
    for seed in track(range(seeds), "Learn"):
        rng = np.random.default_rng(seed)
        train, test = places.draw(rng, DRAWS), places.draw(rng, DRAWS)
        for name, function in functions().items():
            learned[name].append(learn(function, train, seed, epochs))
            measured[name].append(figures(places, learned[name][-1], *test))
        for name, exact in (("E[log l]", places.mean_log), ("log E[l]", np.log(places.mean))):
            measured[name].append(figures(places, exact, *test))
    record = {
        "command": f"python -m benchmarks.objectives.targets --seeds {seeds} --epochs {epochs}",
        "batch": BATCH,
        "draws": DRAWS,
        "seeds": seeds,
        "measured": measured,
        "software": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    text = _markdown(record)
    print(text)
    out.mkdir(parents=True, exist_ok=True)
    (out / "targets.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    (out / "targets.md").write_text(text)
    _draw(places, learned).savefig(out / "targets.png", dpi=80)


def _markdown(record: dict[str, Any]) -> str:
    return "\n".join([*_head(record), *_rows(record), *_differences(record), ""])


def _head(record: dict[str, Any]) -> Iterator[str]:
    yield "# What the optimum of each objective estimates"
    yield ""
    yield f"Made by `{record['command']}`: 64 places, {record['draws']} draws to learn from and"
    yield f"as many to test on, batches of {record['batch']}; mean ± standard deviation over {record['seeds']} seeds."
    yield "The mean loss is 1, and so is the AURC of a random order. Off: root mean square distance of the scores"
    yield "from a target, a constant apart."
    yield ""


def _rows(record: dict[str, Any]) -> Iterator[str]:
    yield _row("score", *TITLES.values())
    yield "|---" + "|---:" * len(TITLES) + "|"
    for name, title in {**NAMES, **ENDS}.items():
        columns = np.array([[row[key] for key in TITLES] for row in record["measured"][name]])
        yield _row(title, *(f"{m:.3f} ± {s:.3f}" for m, s in zip(columns.mean(0), columns.std(0, ddof=1), strict=True)))


def _differences(record: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"Less {NAMES[BASE]} of the same seed, with a 95 % interval (t, over seeds):"
    yield ""
    compared = ("aurc", "one_minus_naurc", "rank_correlation", "rank_of_mean")
    yield _row("score", *(TITLES[key] for key in compared))
    yield "|---" + "|---:" * len(compared) + "|"
    base = record["measured"][BASE]
    for name in (name for name in NAMES if name != BASE):
        pairs = zip(record["measured"][name], base, strict=True)
        gaps = np.array([[row[key] - other[key] for key in compared] for row, other in pairs])
        half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(0, ddof=1) / np.sqrt(len(gaps))
        cells = (f"{m:+.3f} ({m - h:+.3f} to {m + h:+.3f})" for m, h in zip(gaps.mean(0), half, strict=True))
        yield _row(NAMES[name], *cells)


def _draw(places: Places, learned: dict[str, list[Array]]) -> Figure:
    """Scores against log E[l]: on one line where the mean is what is estimated."""
    shown = ("learning_loss_pp", "log_loss", "weighted, fixed divisor", "gamma")
    picture = Figure(figsize=(13, 3.6), layout="constrained")
    axes = picture.subplots(1, len(shown), sharex=True)
    for axis, name in zip(axes, shown, strict=True):
        scores = np.mean([one - one.mean() for one in learned[name]], axis=0)
        points = axis.scatter(np.log(places.mean), scores, c=np.log10(places.shape), cmap="viridis", s=18)
        axis.set(title=NAMES[name].replace(", ", ",\n", 1), xlabel="log E[l]")
    axes[0].set_ylabel("learned score")
    picture.colorbar(points, ax=axes, label="log10 of the shape")
    return picture


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(main)
