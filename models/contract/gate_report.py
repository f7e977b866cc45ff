"""What the gates said about a candidate: `gates.json` in its folder.

`models.refinement.gates` writes it; whoever promotes a candidate or shows it reads it.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from models.contract.bundle import BundleError
from models.contract.fields import Finite, Name, Part, Sentence, Share
from models.contract.index import Version

FILE: Final = "gates.json"

Outcome = Literal["passed", "failed", "too_few_labels", "not_asked"]
Count = Annotated[int, Field(ge=0)]


class GateResult(Part):
    """The answer of one gate. `estimate` lies between `low` and `high`, and all are in the unit of `limit`."""

    gate: Name
    outcome: Outcome
    sentence: Sentence
    estimate: Finite | None = None
    low: Finite | None = None
    high: Finite | None = None
    limit: Finite | None = None
    labels: Count = 0  # labels or images that the answer comes from
    alpha: Share | None = None  # of each end of the interval
    needed: Count | None = None  # labels to collect, beside those that are there; None: labels are not what is missing


class GateReport(Part):
    """`gates.json`."""

    candidate: Name
    parent: Version
    made_at: Name  # ISO 8601, UTC
    attempt: Annotated[int, Field(ge=1)]  # the how-manieth on the same judging labels
    results: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """Whether each gate passed or was not asked, and one was asked. Too few labels is no pass."""
        outcomes = {result.outcome for result in self.results}
        return "passed" in outcomes and outcomes <= {"passed", "not_asked"}

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=2).encode() + b"\n"


def read_gate_report(folder: Path) -> GateReport:
    """The report in a candidate's folder. Raises BundleError when it is missing or damaged."""
    path = folder / FILE
    try:
        return GateReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): the gates have not run on it") from error
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "report"
        raise BundleError(f"{path} is damaged at {where}: run the gates again") from error
