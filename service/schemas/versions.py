"""Which version of a model is live, over HTTP: promotion, rollback and history."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from service.schemas.predictions import Wire

MAX_WHO, MAX_REASON = 128, 1000
WAIT_S, MAX_WAIT_S = 10.0, 60.0
MAX_CHANGES = 1000  # in one reply


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("only printable characters are allowed, on one line")
    return text


VersionName = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$", description='A version, such as "3".')]
Who = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_WHO),
    AfterValidator(_printable),
    Field(description="Who asks for the change, for the history. The service does not check it."),
]
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_REASON),
    AfterValidator(_printable),
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


class PromoteRequest(Wire):
    version: VersionName
    expected_live: ExpectedLive
    reason: Reason
    who: Who = "unknown"
    wait_s: WaitS = WAIT_S


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


class HistoryReply(Wire):
    model: str
    live: str = Field(description="The live version in the bundle store.")
    previous: str | None
    served: str | None = Field(description="The live version of the replica that answers.")
    changes: list[ChangeFields] = Field(description="Newest first.")
