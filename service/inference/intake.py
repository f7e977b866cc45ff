"""The frozen record of one request: read once, from its headers, and handed along to the line."""

import math
from typing import NamedTuple


class Intake(NamedTuple):
    """One request, before its body. A tuple, because a frozen dataclass costs five times as much to make.

    The line needs the first four fields. The others are as the client sent them: `edge.headers` checks each when it is
    used.
    """

    request_id: str
    source: str | None = None  # the camera or client that the images are from
    operating_point: str | None = None  # one that the bundle has; None: the service's own
    deadline: float = math.inf  # of time.monotonic

    arrived_at: float = 0.0  # of time.monotonic
    key: bytes | None = None  # of `Authorization: Bearer`
    content_length: bytes | None = None
    content_type: bytes = b""
    content_encoding: str = "identity"
    json_length: str | None = None  # Inference-Header-Content-Length
    timeout_ms: bytes | None = None  # X-Request-Timeout-Ms
    query: bytes = b""

    def for_line(self, operating_point: str, deadline: float) -> "Intake":
        """The part that the line needs, with what is known once the body has come."""
        return Intake(self.request_id, self.source, operating_point, deadline)
