"""Losscast in one minute: post canvases, see which answers to trust, label the most valuable one.

Starts a service of its own with the shipped `digits` bundle, posts clean and corrupted test canvases, and sets
the predicted losses beside the true ones, which only a demonstration knows. Run it with `make demo`;
`python demo/digits.py --picture docs/demo.png` makes the picture of the README.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Annotated

import cv2
import httpx
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from demo.picture import Answer, draw
from demo.running import NotServing, running_service
from models.evaluation.metrics import rank_correlation
from models.tasks.corruption import CORRUPTIONS, corrupt
from models.tasks.digits import Digits
from service.client import ClientError, LosscastClient

ROOT = Path(__file__).resolve().parent.parent
BUNDLES, MODEL = ROOT / "bundles", "digits"
PICTURE = ROOT / "demo" / "out" / "demo.png"
CLEAN, CORRUPTED = 60, 60
SEED = 7  # of the canvases; evaluation uses another
ANNOTATOR = "demo"
LEASED = 3
SHOWN = 8  # rows at each end of the table
DRAIN_LIMIT_S = 20.0
COUNTERS = ("losscast_requests_total", "losscast_verdicts_total", "losscast_flags_total", "losscast_samples_total")

Canvas = tuple[NDArray[np.uint8], str, NDArray[np.float32]]  # image [h, w, 1], kind, true corners [4, 2]


def main(picture: Annotated[Path, typer.Option(help="The PNG of the ten best and the ten worst.")] = PICTURE) -> None:
    """Exit status 0 when everything worked; nothing is left running either way."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console()
    try:
        with tempfile.TemporaryDirectory(prefix="losscast-demo-") as state:
            console.print("Starting a service of our own ...")
            with running_service(BUNDLES, MODEL, Path(state)) as url, LosscastClient(url) as client:
                console.print(f"Service ready: {url}")
                _show(client, url, console, picture)
    except (NotServing, ClientError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _show(client: LosscastClient, url: str, console: Console, picture: Path) -> None:
    task = Digits()
    posted = [
        _post(client, task, canvas) for canvas in track(list(canvases(task)), "Posting canvases", console=console)
    ]
    answers = sorted(posted, key=lambda answer: answer.predicted_loss)
    console.print(_table(answers), _summary(answers))
    _label_most_valuable(client, answers, console)
    _show_counters(client, url, console)
    draw(answers, picture)
    console.print(f"Picture: {picture}", soft_wrap=True)


def canvases(task: Digits) -> Iterator[Canvas]:
    """CLEAN test canvases, then CORRUPTED ones of other digits, in ways that training never saw."""
    rng = np.random.default_rng(SEED)
    test = task.examples("test", seed=SEED)
    chosen = rng.permutation(len(test))[: CLEAN + CORRUPTED]
    for row in chosen[:CLEAN]:
        yield test.images[row], "clean", test.targets[row]
    for row, kind in zip(chosen[CLEAN:], cycle(CORRUPTIONS), strict=False):
        yield corrupt(test.images[row], rng, kind, rng.uniform(0.2, 1)), kind, test.targets[row]


def _post(client: LosscastClient, task: Digits, canvas: Canvas) -> Answer:
    image, kind, corners = canvas
    reply = client.predict(cv2.imencode(".png", image)[1].tobytes())
    predicted = np.array(reply.prediction.values)
    return Answer(
        image=image,
        kind=kind,
        truth=corners.astype(np.float64),
        predicted=predicted,
        true_loss=float(task.true_loss(predicted[None], corners[None])[0]),
        predicted_loss=reply.predicted_loss,
        ood_score=reply.ood_score,
        lossy=reply.verdict.lossy,
        sample_id=reply.sample_id,
    )


def _table(answers: Sequence[Answer]) -> Table:
    table = Table(
        "rank", "canvas", title=f"{len(answers)} answers by predicted loss, beside the true one", title_justify="left"
    )
    for name in ("predicted, px", "true, px", "OOD score", "verdict"):
        table.add_column(name, justify="right")
    for rank, answer in enumerate(answers, start=1):
        if SHOWN < rank <= len(answers) - SHOWN:
            continue
        table.add_row(
            str(rank),
            answer.kind.replace("_", " "),
            f"{answer.predicted_loss:.2f}",
            f"{answer.true_loss:.2f}",
            f"{answer.ood_score:.1f}",
            "[red]lossy[/red]" if answer.lossy else "passed",
            end_section=rank == SHOWN,
        )
    return table


def _summary(answers: Sequence[Answer]) -> Table:
    table = Table("canvases", title="Does the predicted loss know?", title_justify="left")
    for name in ("number", "rank correlation", "lossy", "true loss of passed, px", "of lossy, px"):
        table.add_column(name, justify="right")
    for name, group in (
        ("all", answers),
        ("clean", [answer for answer in answers if answer.kind == "clean"]),
        ("corrupted", [answer for answer in answers if answer.kind != "clean"]),
    ):
        losses = np.array([answer.true_loss for answer in group])
        lossy = np.array([answer.lossy for answer in group])
        correlation = rank_correlation([answer.predicted_loss for answer in group], losses)
        means = [f"{losses[part].mean():.2f}" if part.any() else "" for part in (~lossy, lossy)]
        table.add_row(name, str(len(group)), f"{correlation:.2f}", str(lossy.sum()), *means)
    return table


def _label_most_valuable(client: LosscastClient, answers: Sequence[Answer], console: Console) -> None:
    _wait_until_queued(client, len({answer.sample_id for answer in answers if answer.lossy}))
    by_id = {answer.sample_id: answer for answer in answers}
    leased = client.lease(LEASED, annotator=ANNOTATOR).samples
    for sample in leased:
        answer = by_id[sample.sample_id]
        console.print(
            f"Leased {sample.sample_id[:12]}: {answer.kind.replace('_', ' ')}, flagged by {', '.join(sample.reasons)}, "
            f"predicted loss {sample.predicted_loss:.1f} px, true loss {answer.true_loss:.1f} px",
            soft_wrap=True,
        )
    first = by_id[leased[0].sample_id]
    client.label(first.sample_id, first.truth.tolist(), annotator=ANNOTATOR)
    console.print(f"Labelled {first.sample_id[:12]} with its true corners")


def _wait_until_queued(client: LosscastClient, expected: int) -> None:
    """The reply means journalled; the drain brings samples to the queue a moment later."""
    deadline = time.monotonic() + DRAIN_LIMIT_S
    while (pending := client.stats()["pending"]) < expected:
        if time.monotonic() > deadline:
            raise ClientError(f"only {pending} of {expected} samples reached the queue within {DRAIN_LIMIT_S:g} s")
        time.sleep(0.1)


def _show_counters(client: LosscastClient, url: str, console: Console) -> None:
    console.print("Queue:", ", ".join(f"{state} {count}" for state, count in client.stats().items()), soft_wrap=True)
    for line in httpx.get(f"{url}/metrics").raise_for_status().text.splitlines():
        if line.startswith(COUNTERS):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
