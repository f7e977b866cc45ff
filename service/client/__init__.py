"""The service from Python: `LosscastClient`, its asyncio twin, and the error both raise."""

from service.client.asynchronous import AsyncLosscastClient
from service.client.blocking import DEFAULT_URL, LosscastClient
from service.client.transport import ClientError

__all__ = ["DEFAULT_URL", "AsyncLosscastClient", "ClientError", "LosscastClient"]
