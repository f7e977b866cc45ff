"""The service from Python: `LosscastClient`, its asyncio twin, and the error both raise."""

from service.client.asynchronous import AsyncLosscastClient
from service.client.blocking import LosscastClient
from service.client.transport import DEFAULT_URL, ClientError

__all__ = ["DEFAULT_URL", "AsyncLosscastClient", "ClientError", "LosscastClient"]
