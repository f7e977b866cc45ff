"""Work in the background: it fails, counts that, says so once, tries again and goes on; and it ends when it is told to.

`run_again` repeats one piece of work. `Failures` counts for it, and for any other loop that goes on after a failure.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import stamina

END_AGAIN_S = 0.2
FIRST_WAIT_S, JITTER_S = 0.1, 0.5


class Failures:
    """Failures of background work: `errors` counts them, `last_error` has the latest one in words.

    Each is logged once, until its words change or the work succeeds.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.errors = 0
        self.last_error: str | None = None
        self._log = log
        self._failing: dict[str, tuple[str, str]] = {}  # by name of the work: words with the error's type and without

    def note(self, name: str, error: BaseException) -> None:
        """name: of the work that failed, as the log says it: "the drain"."""
        kind, reason = type(error).__name__, " ".join(str(error).split())
        words = f"{kind}: {reason}"
        if self._failing.get(name, ("", ""))[0] != words:
            self._log.warning("%s failed and will try again: %s", name, words)
        self._failing[name] = words, reason or kind
        self.errors += 1
        self.last_error = words

    def over(self, name: str) -> None:
        """The work succeeded: its next failure is news."""
        self._failing.pop(name, None)

    def reason(self, name: str) -> str | None:
        """Why the work fails now; None if it does not."""
        return self._failing[name][1] if name in self._failing else None

    @contextmanager
    def noted(self, name: str) -> Iterator[None]:
        """Notes an error that the block raises, and lets it pass."""
        try:
            yield
        except Exception as error:
            self.note(name, error)
            raise
        self.over(name)


async def run_again(
    name: str,
    wait: Callable[[], Awaitable[object]],
    work: Callable[[], Awaitable[object]],
    failures: Failures,
    *,
    max_wait_s: float,
) -> None:
    """Does the work whenever `wait` returns, until cancelled.

    Work that fails is repeated until it succeeds, after pauses that double up to max_wait_s and vary at random.
    """
    while True:
        await wait()
        async for attempt in stamina.retry_context(
            on=Exception,
            attempts=None,
            timeout=None,
            wait_initial=FIRST_WAIT_S,
            wait_max=max_wait_s,
            wait_jitter=JITTER_S,
        ):
            with attempt, failures.noted(name):
                await work()


async def end(task: asyncio.Task[None]) -> None:
    """Cancels the task until it is done: redis-py can lose a cancellation that comes while it makes a connection.

    An error with which the task ends is ignored.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=END_AGAIN_S)
    if not task.cancelled():
        task.exception()  # else asyncio reports it as never retrieved
