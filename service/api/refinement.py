"""The lock on the refinement of a model. `losscast refine` takes it; nobody else needs it."""

from typing import Annotated

from fastapi import APIRouter, Query

from models.contract.manifest import is_model_name
from service.errors import NotFound
from service.resources import Shared
from service.schemas.predictions import ErrorReply
from service.schemas.refinement import MAX_TOKEN, KeepLockRequest, LockReply, TakeLockRequest
from service.versions.refinement_lock import Held

router = APIRouter(tags=["models"], responses={code: {"model": ErrorReply} for code in (400, 404, 409, 503)})
PATH = "/v1/models/{model}/refinement"


@router.get(PATH)
async def look(model: str, shared: Shared) -> LockReply:
    """Who refines the model now."""
    return _reply(model, await shared.refinement_lock.look(_checked(model)))


@router.post(PATH)
async def take(model: str, request: TakeLockRequest, shared: Shared) -> LockReply:
    """Takes the lock, over all hosts. 409: another holder has it; the message names it."""
    held = await shared.refinement_lock.take(_checked(model), request.holder, request.length_s, request.above)
    return _reply(model, held)


@router.put(PATH)
async def keep(model: str, request: KeepLockRequest, shared: Shared) -> LockReply:
    """Keeps the lock for longer. 409: it was lost, and the holder must stop."""
    return _reply(model, await shared.refinement_lock.keep(_checked(model), request.token, request.length_s))


@router.delete(PATH)
async def drop(model: str, token: Annotated[int, Query(ge=0, le=MAX_TOKEN)], shared: Shared) -> LockReply:
    """Gives the lock back. It does nothing for a token that has lost it."""
    return _reply(model, await shared.refinement_lock.drop(_checked(model), token))


def _checked(model: str) -> str:
    if not is_model_name(model):
        raise NotFound(f"there is no model {model!r}: a name has small letters, digits, - and _")
    return model


def _reply(model: str, held: Held) -> LockReply:
    return LockReply(model=model, holder=held.holder, token=held.token, left_s=held.left_s)
