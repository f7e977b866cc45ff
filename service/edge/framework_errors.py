"""FastAPI's own errors, such as an unknown path or a field that is missing, raised again as ServiceErrors."""

from typing import NoReturn

from fastapi import Request
from fastapi.exceptions import RequestValidationError

from service.errors import BadRequest, MethodNotAllowed, NotFound, ServiceError


async def translate(_: Request, error: Exception) -> NoReturn:
    """FastAPI's handler for its HTTPException and RequestValidationError. Raises the ServiceError."""
    raise _as_service_error(error) from error


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error.__cause__, ServiceError):  # FastAPI wraps the errors that are raised while it reads a body
        return error.__cause__
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}; see /docs")
    kinds: dict[int, type[ServiceError]] = {404: NotFound, 405: MethodNotAllowed}
    status = getattr(error, "status_code", 400)
    return kinds.get(status, BadRequest)(f"{getattr(error, 'detail', error)}: see /docs for what there is")
