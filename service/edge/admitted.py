"""The way in for every request for predictions, in both protocols.

headers checked -> version held -> admitted -> body -> deadline. The caller then sends the images through the line.
"""

import math
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from starlette.types import Receive

from service.edge.headers import announced_bytes, check_source, time_allowed_s
from service.edge.waiting import in_time, whole_body
from service.inference.admission import Places
from service.inference.intake import Intake
from service.predictor import Predictor
from service.resources import Resources
from service.settings import Settings

T = TypeVar("T")


@contextmanager
def admitted(
    shared: Resources, intake: Intake, receive: Receive, model: str | None, version: str | None = None
) -> Iterator["Admitted"]:
    """Around one request until it is answered: of the default model, of its live version, when left out.

    Raises BadRequest for a header, NotFound and Unavailable for the model or version, QueueFull.
    """
    settings = shared.settings
    check_source(intake)
    allowed_s = time_allowed_s(intake, settings.request_timeout_s)
    deadline = None if allowed_s is None else intake.arrived_at + allowed_s
    announced = announced_bytes(intake, settings.max_body_bytes)
    with shared.models.using(model, version) as predictor, shared.admission.request(announced) as places:
        yield Admitted(predictor, places, intake, receive, settings, deadline)


@dataclass(slots=True)
class Admitted:
    """A request that was let in. It holds its version and its places."""

    predictor: Predictor
    places: Places
    _intake: Intake
    _receive: Receive
    _settings: Settings
    _deadline: float | None  # of time.monotonic; None: the service's own, which starts when the body has come

    async def body(self) -> bytes:
        """Raises as `whole_body`, and QueueFull when its bytes are too many on top of those of other requests."""
        settings = self._settings
        body = await whole_body(self._receive, settings.upload_timeout_s, self._deadline, self.places.take)
        if self._deadline is None:
            self._deadline = time.monotonic() + settings.request_timeout_s
        return body

    def for_line(self, operating_point: str, timeout_s: float = math.inf) -> Intake:
        """The request for the line, once its body is there. timeout_s: from now, where the body asks for one."""
        asked = time.monotonic() + timeout_s
        return self._intake.for_line(operating_point, asked if self._deadline is None else min(asked, self._deadline))

    async def in_time(self, work: Awaitable[T], intake: Intake) -> T:
        """The result of `work`. Raises as `waiting.in_time`."""
        return await in_time(work, self._receive, intake.deadline)
