"""The lock that lets one refinement of a model run at a time, over all hosts."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from service.schemas.predictions import Wire
from service.schemas.versions import MAX_WHO, printable

MAX_TOKEN = 2**53 - 1  # a whole number that Lua keeps in full
LengthS = Annotated[
    float, Field(ge=1, le=3600, description="Seconds until the lock is lost, unless it is kept before.")
]
Token = Annotated[int, Field(ge=0, le=MAX_TOKEN)]


class TakeLockRequest(Wire):
    holder: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_WHO),
        AfterValidator(printable),
        Field(description="A name that nobody else uses. The same holder may ask again: it keeps its token."),
    ]
    length_s: LengthS
    above: Token = Field(default=0, description="The largest token in the bundle store: the new one is larger.")


class KeepLockRequest(Wire):
    token: Token
    length_s: LengthS


class LockReply(Wire):
    model: str
    holder: str | None = Field(description="null: nobody has the lock.")
    token: int = Field(description="Of the holder, or of the last one. Each new holder gets a larger one.")
    left_s: float = Field(description="Seconds until it is lost, unless it is kept before.")
