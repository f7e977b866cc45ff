"""The labelling queue over HTTP: take the most valuable samples, send labels back, or say why not.

A token names a lease, so that a request that got no answer can be sent again with the same token. `service.api.labels`
has the samples and the labels.
"""

import time
from typing import Annotated

from fastapi import APIRouter, Query

from models.contract.manifest import Task
from service.errors import NotFound
from service.labelling.endings import Ending
from service.labelling.queue.label_queue import Leased
from service.labelling.samples.fields import reply_fields
from service.labelling.samples.label import Values, check_inside, read_keypoints, read_values
from service.labelling.samples.sample import Sample
from service.resources import Resources, Shared, queue_of
from service.schemas.labelling import (
    MAX_LEASE,
    AuditsReply,
    ExtendRequest,
    LabelFields,
    LabelReply,
    LabelRequest,
    LeasedSample,
    LeaseReply,
    LeaseRequest,
    RejectReply,
    RejectRequest,
    RequeueReply,
    RequeueRequest,
    SampleReply,
    SkipReply,
    SkipRequest,
)
from service.schemas.predictions import ErrorReply

router = APIRouter(tags=["labelling"], responses={code: {"model": ErrorReply} for code in (400, 404, 409, 422, 503)})


@router.get("/v1/queue/stats")
async def stats(shared: Shared, model: str | None = None) -> dict[str, int]:
    """The samples of a model's queue by state, those that have left it by reason, and the rest of the budget."""
    return await shared.queue.stats(await queue_of(shared, model))


@router.get("/v1/queue/audits")
async def audits(
    shared: Shared,
    model: str | None = None,
    start: Annotated[int, Query(ge=0, description="Samples to leave out at the start.")] = 0,
    n: Annotated[int, Query(ge=1, le=MAX_LEASE)] = 100,
) -> AuditsReply:
    """Samples of the audit lane that have no label yet, the newest first: a fair draw from recent traffic.

    They stay in the queue. `losscast snapshot` takes the newest ones along, because a flag budget needs no labels.
    """
    found = await shared.queue.audits(await queue_of(shared, model), start, n)
    return AuditsReply(samples=[SampleReply(**reply_fields(sample)) for sample in found])


@router.post("/v1/queue/lease")
async def lease(request: LeaseRequest, shared: Shared) -> LeaseReply:
    """Leases the n most valuable pending samples. They return to the queue when the lease runs out.

    You get fewer when fewer are pending, or when the hourly budget is spent (`budget_left` in the stats is 0).
    """
    leased = await shared.queue.lease(
        await queue_of(shared, request.model),
        n=request.n,
        annotator=request.annotator,
        token=request.token,
        lease_s=request.lease_s or shared.settings.lease_s,
    )
    return LeaseReply(samples=[_leased_sample(one, request) for one in leased])


@router.post("/v1/queue/extend")
async def extend(request: ExtendRequest, shared: Shared) -> LeaseReply:
    """Extends the lease of the samples that it still holds, and returns them."""
    leased = await shared.queue.extend(
        await queue_of(shared, request.model),
        annotator=request.annotator,
        token=request.token,
        lease_s=request.lease_s or shared.settings.lease_s,
    )
    return LeaseReply(samples=[_leased_sample(one, request) for one in leased])


@router.post("/v1/queue/label")
async def label(request: LabelRequest, shared: Shared) -> LabelReply:
    """Stores a label and takes its sample off the queue, in one step. The lease may have run out meanwhile."""
    manifest = shared.models.manifest(request.model)
    values = _values(request.label, manifest.task)
    sample = await _known(shared, manifest.model, request.sample_id)
    if sample:
        check_inside(values, manifest.task, sample.width, sample.height)
    state = await shared.endings.end(
        Ending(
            kind="label",
            model=manifest.model,
            sample_id=request.sample_id,
            annotator=request.annotator,
            token=request.token,
            content={"values": values},
        )
    )
    if sample and state == "accepted":
        shared.metrics.labelled(manifest.model, max(time.time() - sample.flagged_at, 0.0))
    return LabelReply(sample_id=request.sample_id, repeated=state == "repeated")


@router.post("/v1/queue/skip")
async def skip(request: SkipRequest, shared: Shared) -> SkipReply:
    """Puts a leased sample back for other annotators. This annotator does not get it again."""
    await shared.queue.skip(await queue_of(shared, request.model), request.sample_id, request.annotator, request.token)
    return SkipReply(sample_id=request.sample_id)


@router.post("/v1/queue/reject")
async def reject(request: RejectRequest, shared: Shared) -> RejectReply:
    """Takes a sample that cannot be labelled off the queue for good. While it is leased, only its holder may."""
    await shared.endings.end(
        Ending(
            kind="rejection",
            model=await queue_of(shared, request.model),
            sample_id=request.sample_id,
            annotator=request.annotator,
            token=request.token,
            content=request.reason,
        )
    )
    return RejectReply(sample_id=request.sample_id)


@router.post("/v1/queue/requeue")
async def requeue(request: RequeueRequest, shared: Shared) -> RequeueReply:
    """Makes dead letters, samples whose leases ran out too often, pending again."""
    return RequeueReply(requeued=await shared.queue.requeue(await queue_of(shared, request.model), request.sample_ids))


def _leased_sample(leased: Leased, request: LeaseRequest | ExtendRequest) -> LeasedSample:
    return LeasedSample(
        **reply_fields(leased.sample),
        annotator=request.annotator,
        token=request.token,
        lease_expires_at=leased.lease_expires_at,
    )


def _values(label: LabelFields, task: Task) -> Values:
    if label.values is not None:
        return read_values(label.values, task)
    return read_keypoints(label.keypoints or [], task)


async def _known(shared: Resources, model: str, sample_id: str) -> Sample | None:
    """None when the queue does not hold the sample any more. Labelling it then raises the reason."""
    try:
        return await shared.queue.get(model, sample_id)
    except NotFound:
        return None
