"""Holds the service's lock on the refinement of a model while a block runs: one refinement over all hosts.

A thread keeps the lock. If it is lost all the same (this host slept, or the service was away for long), the fence of
the bundle store refuses what this refinement would write, and `check` stops it earlier.
"""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from models.refinement.config import Busy, RefinementError
from models.refinement.service_api import ServiceApi, ServiceAway

log = logging.getLogger(__name__)

LENGTH_S = 60.0  # after so long a silence the next refinement may begin
KEEPS = 4  # times that it is kept within its length


class ServiceLock:
    """The lock, as its holder sees it."""

    def __init__(self, api: ServiceApi, model: str, token: int) -> None:
        self.token = token
        self._api, self._model = api, model
        self._over = threading.Event()
        self._lost: str | None = None

    def check(self) -> None:
        """Raises RefinementError once the lock is lost."""
        if self._lost is not None:
            raise RefinementError(f"{self._lost}: this refinement stops, and the next one goes on with its candidate")

    def keep(self) -> None:
        """Keeps the lock until `release`."""
        while not self._over.wait(LENGTH_S / KEEPS):
            try:
                self._api.keep_lock(self._model, self.token, LENGTH_S)
            except Busy as error:
                self._lost = str(error)
                return
            except RefinementError as error:  # away: the lock may outlast it, and the fence guards the store
                log.warning("the lock was not kept: %s", error)

    def release(self) -> None:
        self._over.set()
        with suppress(RefinementError):  # it runs out by itself
            self._api.drop_lock(self._model, self.token)


@contextmanager
def locked_by_service(api: ServiceApi, model: str, above: int) -> Iterator[ServiceLock]:
    """above: the largest token in the bundle store. Raises Busy, ServiceAway, and RefinementError."""
    holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        token = api.take_lock(model, holder, LENGTH_S, above)
    except ServiceAway as error:
        raise ServiceAway(f"{error}; a refinement that gets --snapshot needs no service") from error
    lock = ServiceLock(api, model, token)
    keeper = threading.Thread(target=lock.keep, name="refinement-lock", daemon=True)
    keeper.start()
    try:
        yield lock
    finally:
        lock.release()
        keeper.join()
