"""The whole loop in a few minutes: a model meets what it has not seen, and learns it from the labels that it asked for.

service with the shipped `digits` -> traffic -> the traffic changes -> drift -> flagged canvases and audits are labelled
-> `losscast refine` -> gates -> `losscast promote` under traffic -> the loss falls -> a picture of it all.

Run it with `make demo-loop`. The script knows the true corners and plays the annotator.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from demo.loop_picture import Compared, Moment, draw
from demo.running import NotServing, running_service
from demo.traffic import Canvas, Traffic, harmed
from models.contract.bundle import read_manifest, read_onnx
from models.publishing.export import run_onnx
from models.tasks.digits import Digits
from service.client import ClientError, LosscastClient
from service.schemas.drift import DriftReport

ROOT = Path(__file__).resolve().parent.parent
SHIPPED, MODEL = ROOT / "bundles" / "digits", "digits"
PICTURE = ROOT / "demo" / "out" / "loop.png"
WHO = "demo"

BUSY, QUIET = 100.0, 8.0  # canvases a second, while there is something to see and while the model learns
CALM, CHANGED, AFTER = 500, 3000, 1000  # canvases of each part
LABELS, AT_ONCE = 1500, 100  # that the annotator draws, and in one lease
AUDITED = 0.25  # of all canvases: a demonstration has minutes for what production does in days
COMPARED, SEED = 6, 1  # canvases of the picture
EFFORT = 0.7
PATIENCE_S = 60.0  # for drift to be seen, and for samples to reach the queue
SETTINGS = {
    "LOSSCAST_AUDIT_RATE": str(AUDITED),
    "LOSSCAST_AUDIT_SHARE": "0.4",
    "LOSSCAST_DRIFT_FLUSH_S": "1",
    "LOSSCAST_DRIFT_WINDOW_S": "60",
    "LOSSCAST_POLL_S": "1",
}


class NoBetter(RuntimeError):  # noqa: N818 - the condition is the name
    """The loop did not come to a better version; the message says why."""


def main(
    picture: Annotated[Path, typer.Option(help="The PNG that tells the story.")] = PICTURE,
    effort: Annotated[float, typer.Option(help="Training time as a multiple of the usual.")] = EFFORT,
) -> None:
    """Exits with 0 when a better version is live at the end. Nothing is left running in any case."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(soft_wrap=True, highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="losscast-loop-") as scratch:
            _Loop.run(Path(scratch), console, picture, effort)
    except (NotServing, NoBetter, ClientError) as error:
        sys.exit(f"demo-loop: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


@dataclass
class _Loop:
    """What the parts of the story share."""

    client: LosscastClient
    traffic: Traffic
    console: Console
    moments: list[Moment]

    @classmethod
    def run(cls, scratch: Path, console: Console, picture: Path, effort: float) -> None:
        began, bundles, task = time.monotonic(), scratch / "bundles", Digits()
        (scratch / "state").mkdir()
        shutil.copytree(SHIPPED, bundles / MODEL)
        console.print("Starting a service of our own ...")
        with (
            running_service(bundles, MODEL, scratch / "state", **SETTINGS) as url,
            LosscastClient(url) as client,
            LosscastClient(url, retry_s=0) as once,
            Traffic(once, task, BUSY) as traffic,
        ):
            console.print(f"Service ready: {url}")
            loop = cls(client, traffic, console, [])
            loop.calm()
            loop.change()
            loop.label()
            loop.refine(url, bundles, scratch, effort)
            loop.promote()
            draw(traffic.posted, loop.moments, _before_and_after(task, bundles / MODEL), picture)
        console.print(f"Picture: {picture}. It took {(time.monotonic() - began) / 60:.1f} minutes.")

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def mark(self, name: str) -> None:
        """Keeps the moment for the picture."""
        self.moments.append(Moment(len(self.traffic.posted), name))

    def drift(self, states: Container[str]) -> DriftReport:
        """The first report with one of these states."""
        deadline = time.monotonic() + PATIENCE_S
        while (report := self.client.drift()).state not in states:
            if time.monotonic() > deadline:
                raise NoBetter(f"drift is still {report.state!r} after {PATIENCE_S:g} s: {report.reason}")
            time.sleep(0.5)
        return report

    def calm(self) -> None:
        self.traffic.wait_for(CALM)
        report = self.drift({"stable", "warning"})
        self.say(f"1. {CALM} canvases as the model knows them. Drift: {report.state}.{_estimate(report)}")

    def change(self) -> None:
        """The world changes, and drift must be seen."""
        self.mark("the traffic changes")
        self.traffic.meet()
        report = self.drift({"drift"})
        self.mark("drift is seen")
        self.say(f"2. Half of the canvases are negatives now. Drift: {report.state}. {report.summary}")
        self.traffic.wait_for(CHANGED)
        self.say(f"   After {CHANGED} canvases more:{_estimate(self.client.drift())}")

    def label(self) -> None:
        """Plays the annotator: leases what the queue offers, and draws the true corners."""
        lanes, deadline = Counter[str](), time.monotonic() + PATIENCE_S
        while lanes.total() < LABELS and time.monotonic() < deadline:
            samples = self.client.lease(min(AT_ONCE, LABELS - lanes.total()), annotator=WHO).samples
            for sample in samples:
                self.client.label(sample.sample_id, self.traffic.truth[sample.sample_id].tolist(), annotator=WHO)
            lanes.update(sample.lane for sample in samples)
            if not samples:
                time.sleep(0.2)  # the drain brings more
        self.mark("labels are there")
        self.say(
            f"3. {lanes.total()} samples are leased and labelled: {lanes.total() - lanes['audit']} flagged, and "
            f"{lanes['audit']} drawn for audit."
        )

    def refine(self, url: str, bundles: Path, scratch: Path, effort: float) -> None:
        """Runs `losscast refine`, as a user would. Traffic goes on."""
        self.traffic.rate = QUIET
        command = ["refine", MODEL, "--url", url, "--store", str(bundles), "--effort", str(effort), "--who", WHO]
        self.say(f"4. losscast {' '.join(command)}")
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        if subprocess.run([sys.executable, "-m", "losscast", *command], cwd=scratch, env=environment).returncode:  # noqa: PLW1510 - looked at here
            raise NoBetter("the refinement failed; it has said why")

    def promote(self) -> None:
        """The candidate goes live if its gates passed."""
        candidate = self.client.candidates(MODEL).candidates[-1]
        if not candidate.passed:
            raise NoBetter("the gates refused the candidate, and the model stays as it was")
        self.traffic.rate = BUSY
        self.traffic.wait_for(round(BUSY))
        live = self.client.history(MODEL).live
        self.client.promote(
            MODEL, candidate=candidate.id, expected_live=live, who=WHO, reason="it learned the new traffic"
        )
        self.mark("version 2 is live")
        self.traffic.wait_for(AFTER)
        if self.traffic.failed:
            raise NoBetter(f"{len(self.traffic.failed)} requests failed, first: {self.traffic.failed[0]}")
        (predicted, true), (new_predicted, new_true) = self.losses(live), self.losses(self.client.history(MODEL).live)
        self.say(
            f"5. {candidate.id} is live. The mean true loss on the changed traffic fell from {true:.1f} to "
            f"{new_true:.1f} px. The service had predicted {predicted:.1f}, and predicts {new_predicted:.1f} now. "
            f"None of {len(self.traffic.posted)} requests failed."
        )
        if new_true >= true:
            raise NoBetter("the new version is no better on the changed traffic")

    def losses(self, version: str) -> tuple[float, float]:
        """Mean predicted and true loss of a version on the changed traffic, in pixels."""
        of = [one for one in self.traffic.posted[self.moments[0].canvases :] if one.version == version]
        return float(np.mean([one.predicted_loss for one in of])), float(np.mean([one.true_loss for one in of]))


def _estimate(report: DriftReport) -> str:
    loss = report.loss
    return f" Estimated mean loss: {loss.value:.1f} {loss.unit} ({loss.low:.1f} to {loss.high:.1f})." if loss else ""


def _before_and_after(task: Digits, versions: Path) -> list[tuple[Compared, Compared]]:
    """What two versions say about corrupted canvases of digits that neither has learned from.

    Their ONNX files answer, not the service: posted canvases could be drawn for labelling.
    """
    test, rng = task.examples("test"), np.random.default_rng(SEED)
    changed = []
    for row in rng.permutation(len(test)).tolist():
        canvas = harmed(Canvas(test.images[row], test.targets[row]), rng)
        if canvas.image is not test.images[row]:
            changed.append(canvas)
    changed = changed[:COMPARED]
    images = np.stack([canvas.image for canvas in changed])
    before, after = (_outputs(versions / number, images) for number in ("1", "2"))
    return [(_compared(canvas, before, place), _compared(canvas, after, place)) for place, canvas in enumerate(changed)]


def _outputs(folder: Path, images: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
    return run_onnx(read_onnx(folder, read_manifest(folder)), images)


def _compared(canvas: Canvas, outputs: Mapping[str, NDArray[np.float32]], row: int) -> Compared:
    return Compared(canvas.image, canvas.corners, outputs["prediction"][row], float(outputs["predicted_loss"][row]))


if __name__ == "__main__":
    typer.run(main)
