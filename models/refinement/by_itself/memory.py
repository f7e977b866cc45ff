"""What the refiner remembers of its last refinement, in a file beside the candidates: a restart must not repeat it."""

import math
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from models.contract.durable import replace_durably

FILE = ".refiner.json"
HOUR_S = 3600.0


class Memory(BaseModel):
    """labelled: samples that were labelled when it began. at: unix seconds; 0: there was none yet."""

    model_config = ConfigDict(frozen=True)

    labelled: int = 0
    at: float = 0.0

    @classmethod
    def read(cls, candidates: Path) -> Self:
        """Nothing is remembered where the file is missing or damaged: one refinement too many does no harm."""
        try:
            return cls.model_validate_json((candidates / FILE).read_bytes())
        except (OSError, ValidationError):
            return cls()

    def keep(self, candidates: Path) -> None:
        """Raises OSError."""
        candidates.mkdir(parents=True, exist_ok=True)
        replace_durably(candidates / FILE, self.model_dump_json().encode() + b"\n")

    def hours(self, now_s: float) -> float:
        """Since then; infinite if there was none. now_s: unix seconds."""
        return (now_s - self.at) / HOUR_S if self.at else math.inf

    def new_labels(self, labelled: int) -> int:
        """A queue that was emptied counts from 0 again: then all of its labels are new."""
        return labelled - self.labelled if labelled >= self.labelled else labelled
