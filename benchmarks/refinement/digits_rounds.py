"""Three rounds of refinement of digits that meet a corruption they have not seen, with labels by the truth.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.refinement.digits_rounds

In each round the live version sees new canvases. Half of them are corrupted. Annotators who make no mistake label some
of those that it flags, and some that chance draws. `refine` makes a candidate and its placebo, and the gates decide
which version is live in the next round. The figures are mean losses and means of the worst tenth, in pixels.
"""

import argparse
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.refinement.oracle import Stream, label_stream, write_snapshot
from benchmarks.refinement.rounds import RESULTS, table, turn
from models.contract.bundle import next_version, publish, read_manifest
from models.contract.candidates import change_state
from models.contract.live import make_live
from models.contract.snapshot import Row
from models.refinement.config import RefinementConfig
from models.refinement.cycle import Refinement, RefinementResult, live_version
from models.tasks.digits import Digits
from models.training.loop import Trainer

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Settings:
    rounds: int = 3
    flagged: int = 200  # labels of each round
    audits: int = 300
    kind: str = "inversion"
    strength: float = 0.6
    effort: float = 0.5
    seed: int = 0


def main() -> None:
    settings = _settings()
    task = Digits()
    stream = Stream(task, settings.kind, settings.strength, seed=settings.seed)  # type: ignore[arg-type]  # argparse checks it
    with tempfile.TemporaryDirectory() as scratch:
        found = []
        for record in run(settings, task, stream, Path(scratch)):
            found.append(record)
            _write(settings, found)
    print(table(found))


def _write(settings: Settings, rounds: list[Any]) -> None:
    """After each round: a long run that is cut off keeps its first rounds."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"digits_rounds_{settings.kind}.json"
    content = {"settings": asdict(settings), "rounds": rounds}
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def run(settings: Settings, task: Digits, stream: Stream, scratch: Path) -> Any:
    """Yields one record for each round."""
    store = scratch / "bundles"
    shutil.copytree(ROOT / "bundles" / "digits", store / "digits")
    measured = {"old": task.examples("test", task.test_views), "stream": stream.test()}
    rows: list[Row] = []
    images: list[bytes] = []
    for number in range(settings.rounds):
        live = live_version(store, "digits")
        new_rows, new_images = label_stream(stream.draw(number), live, number, settings.flagged, settings.audits)
        rows, images = [*rows, *new_rows], [*images, *new_images]
        folder = write_snapshot(scratch / f"snapshot-{number}", live, rows, images)
        teaching = sum(row.split == "train" for row in rows)
        config = RefinementConfig(seed=settings.seed + number).for_labels(teaching, settings.effort)
        asked = Refinement(store, "digits", task, folder, config, "benchmark")
        outcome, record = turn(asked, _start, rows, number + 1, measured)
        if outcome.judged.passed:
            _go_live(outcome, store)
        print(table([record]), *record["gates"], sep="\n", flush=True)
        yield record


def _go_live(outcome: RefinementResult, store: Path) -> None:
    number = next_version(store / "digits")
    manifest = read_manifest(outcome.folder).model_copy(update={"version": str(number)})
    files = {name: (outcome.folder / name).read_bytes() for name in ("model.onnx", "model_card.md")}
    make_live(publish(store, manifest, files))
    change_state(outcome.folder, "live", who="benchmark", reason="the gates passed", version=number)


def _start(folder: Path) -> Trainer:
    return Trainer.start(folder=folder)


def _settings() -> Settings:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Settings()
    for name, value in asdict(usual).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return Settings(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
