"""Ends background tasks for certain: redis-py can lose a cancellation that meets a connection in the making."""

import asyncio

AGAIN_S = 0.2


async def end(task: asyncio.Task[None]) -> None:
    """Cancels the task until it is done. How it ended is for nobody to know: it was not wanted any more."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=AGAIN_S)
    if not task.cancelled():
        task.exception()  # else asyncio reports it as never retrieved
