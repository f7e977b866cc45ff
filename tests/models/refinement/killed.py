"""`python -m tests.models.refinement.killed STORE SNAPSHOT WORK` refines, and kills itself with -9 when WORK begins."""

import os
import signal
import sys
from pathlib import Path

from models.contract.candidates import CandidateRecord
from models.refinement.cycle import Judged, Refinement, refine
from models.training.loop import Trainer
from tests.models.refinement.conftest import QUICK, FewDigits


def main(store: Path, snapshot: Path, work: str) -> None:
    def progress(what: str, _done: int, _total: int) -> None:
        if what == work:
            os.kill(os.getpid(), signal.SIGKILL)

    def start(folder: Path) -> Trainer:
        return Trainer.start(folder=folder)

    def never(_live: Path, _candidate: Path, _placebo: Path | None, _record: CandidateRecord) -> Judged:
        raise AssertionError(f"{work!r} never began")

    refine(Refinement(store, "digits", FewDigits(), snapshot, QUICK, "ann"), start, never, progress)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
