"""When a client tries again: no answer, 429 and 503, for a limited time, when the service said it would be back.

Pure but for the clock. Every call may be repeated: predictions by their content, the queue's by token.
"""

import time

from service.client.transport import ClientError

BUSY = (429, 503)


class Patience:
    """A backoff hook for stamina, made anew for each call. limit_s: 0 never tries again."""

    def __init__(self, limit_s: float) -> None:
        self._until = time.monotonic() + limit_s

    def __call__(self, error: Exception) -> bool | float:
        """False: give up; True: stamina's own backoff; a number: the seconds to wait."""
        if not isinstance(error, ClientError) or (error.status is not None and error.status not in BUSY):
            return False
        wait_s = error.retry_after_s or 0.0
        if time.monotonic() + wait_s >= self._until:
            return False
        return wait_s or True
