"""The parts that the builders of requests share: paths, bodies, and how a reply is read."""

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from service.client.transport import ApiRequest

Reply = TypeVar("Reply", bound=BaseModel)


def model_path(model: str) -> str:
    return f"/v1/models/{quote(model, safe='')}"


def post_to(path: str, request: BaseModel, reply: type[Reply], wait_s: float = 0.0) -> ApiRequest[Reply]:
    content = request.model_dump_json(exclude_none=True).encode()
    headers = {"content-type": "application/json"}
    return ApiRequest("POST", path, reads(reply), content=content, headers=headers, wait_s=wait_s)


def reads(reply: type[Reply]) -> Callable[[httpx.Response], Reply]:
    """Reads a reply. Unknown fields are no error: a newer service may send more than this client knows."""
    return lambda response: reply.model_validate_json(response.content, extra="ignore")
