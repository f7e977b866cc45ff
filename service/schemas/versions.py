"""Which version of a model is live, over HTTP: promotion, rollback and history."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from service.schemas.predictions import Wire

MAX_WHO, MAX_REASON = 128, 1000
WAIT_S, MAX_WAIT_S = 10.0, 60.0
MAX_CHANGES = 1000  # in one reply
MAX_SAMPLES = 10_000  # in one page


def printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("only printable characters are allowed, on one line")
    return text


VersionName = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$", description='A version, such as "3".')]
Who = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_WHO),
    AfterValidator(printable),
    Field(description="Who asks for the change, for the history. The service does not check it."),
]
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_REASON),
    AfterValidator(printable),
    Field(description="Why, for the history."),
]
ExpectedLive = Annotated[
    VersionName,
    Field(description="The version that is live now (`live` of the history). If another one is: 409, no change."),
]


WaitS = Annotated[
    float,
    Field(ge=0, le=MAX_WAIT_S, description="Seconds to wait at most until every replica serves the version."),
]
CandidateName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$", description="Id of a candidate.")]


class PromoteRequest(Wire):
    """Names either a version that is published or a candidate."""

    version: VersionName | None = None
    candidate: CandidateName | None = None
    override: bool = Field(default=False, description="Promote a candidate whose gates failed or have not run.")
    expected_live: ExpectedLive
    reason: Reason
    who: Who = "unknown"
    wait_s: WaitS = WAIT_S

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.version is None) == (self.candidate is None):
            raise ValueError("give a version or a candidate, and not both")
        if self.override and self.candidate is None:
            raise ValueError("override is for a candidate: a version has no gates")
        return self


class RollbackRequest(Wire):
    expected_live: ExpectedLive
    reason: Reason
    who: Who = "unknown"
    wait_s: WaitS = WAIT_S
    to: VersionName | None = Field(default=None, description="The version to go back to; default: the previous one.")


class ReplicaFields(Wire):
    name: str = Field(description="Host, process number, and a random part. The replica's log has it.")
    version: str | None = Field(description="The version that it says it serves.")
    serves: bool = Field(description="Whether it says so now, of the live version. False too for a silent replica.")
    silent_s: float = Field(description="Seconds since its last word; it speaks every two seconds.")


class LiveReply(Wire):
    model: str
    live: str = Field(description="The live version in the bundle store.")
    previous: str | None = Field(description="The version that a rollback goes to.")
    changed: bool = Field(description="False: the request was carried out before, and changed nothing now.")
    served: str | None = Field(
        description="The live version of the replica that answers. Other replicas follow when they poll the store."
    )
    replicas: list[ReplicaFields] = Field(
        description="Of the model, on the same Redis server. One that is silent for half a minute is taken for gone.",
    )
    complete: bool = Field(
        description="Whether every replica serves the live version. If not, the change stands all the same."
    )
    unseen: str | None = Field(default=None, description="Why there may be replicas that are not listed.")


class ChangeFields(Wire):
    at: str = Field(description="UTC, ISO 8601.")
    event: Literal["live", "promoted", "rolled_back"] = Field(
        description="live: training published it, or it was found live, for example after model.json was edited."
    )
    version: str = Field(description="The version that became live.")
    before: str | None = Field(description="The version that was live until then.")
    who: str
    reason: str
    onnx_sha256: str | None = Field(description="Of the version's model.onnx; null if its manifest was unreadable.")
    candidate: str | None = Field(default=None, description="The candidate that was promoted as the version.")


class ProbationFields(Wire):
    version: str = Field(description="It was promoted, and goes back by itself if it misbehaves.")
    before: str = Field(description="The version that it would go back to.")
    ends_at: float = Field(description="Unix time in seconds at which the probation ends at the latest.")
    images: int = Field(description="That the replica that answers has answered since the promotion.")
    of: int = Field(description="Images after which the probation ends earlier.")
    complaint: str | None = Field(description="Why it should go back, while the bundle store cannot be written.")


class HistoryReply(Wire):
    model: str
    live: str = Field(description="The live version in the bundle store.")
    previous: str | None
    served: str | None = Field(description="The live version of the replica that answers.")
    probation: ProbationFields | None = Field(
        default=None, description="Of the live version, at the replica that answers."
    )
    changes: list[ChangeFields] = Field(description="Newest first.")


class GateFields(Wire):
    gate: str
    outcome: Literal["passed", "failed", "too_few_labels", "not_asked"]
    sentence: str


class CandidateFields(Wire):
    id: str
    state: Literal["training", "gated", "shadow", "live", "rejected", "superseded", "rolled_back"]
    passed: bool | None = Field(description="What the gates said; null before they ran.")
    parent: str = Field(description="The version that it was refined from and judged against.")
    snapshot: str | None = Field(description="Fingerprint of the snapshot that it learned from.")
    made_at: str = Field(description="UTC, ISO 8601.")
    changed_at: str = Field(description="UTC, ISO 8601.")
    who: str = Field(description="Of the last change of state.")
    reason: str
    version: str | None = Field(description="Its number once it was promoted.")
    gates: list[GateFields] = Field(description="Empty before they ran.")


class CandidatesReply(Wire):
    model: str
    candidates: list[CandidateFields] = Field(description="Oldest first.")
    damaged: list[str] = Field(description="A sentence for each candidate that cannot be read.")


class LearnedFields(Wire):
    version: str
    samples: int = Field(description="From which it, or a version before it, learned.")


class LearnedReply(Wire):
    model: str
    live: str
    versions: list[LearnedFields] = Field(description="Those that learned from labels, by number.")


class LearnedPage(Wire):
    model: str
    version: str
    samples: int = Field(description="In all.")
    sample_ids: list[str] = Field(description="Of this page.")
