"""The labelling queue over HTTP: pull the most valuable samples, look at them, send labels back."""

from typing import Any

from fastapi import APIRouter, Response

from service.api.resources import Shared
from service.labelling.label import check_label
from service.labelling.queue import Leased
from service.schemas import (
    ErrorReply,
    LabelReply,
    LabelRequest,
    LeasedSample,
    LeaseReply,
    LeaseRequest,
    PredictionFields,
)

router = APIRouter(tags=["labelling"], responses={code: {"model": ErrorReply} for code in (404, 409, 422, 503)})


@router.get("/v1/queue/stats")
async def stats(shared: Shared, model: str | None = None) -> dict[str, int]:
    """Samples of a model's queue, by state."""
    return await shared.queue.stats(shared.predictor(model).manifest.model)


@router.post("/v1/queue/lease")
async def lease(request: LeaseRequest, shared: Shared) -> LeaseReply:
    """Takes the n most valuable pending samples; they return to the queue when the lease runs out."""
    model = shared.predictor(request.model).manifest.model
    leased = await shared.queue.lease(
        model,
        n=request.n,
        annotator=request.annotator,
        token=request.token,
        lease_s=request.lease_s or shared.settings.lease_s,
    )
    return LeaseReply(samples=[_leased_sample(one) for one in leased])


@router.post("/v1/queue/label")
async def label(request: LabelRequest, shared: Shared) -> LabelReply:
    """Stores a label and takes its sample off the queue, in one step."""
    task = shared.predictor(request.model).manifest
    check_label(request.label.values, task.task)
    await shared.queue.label(
        task.model,
        sample_id=request.sample_id,
        annotator=request.annotator,
        token=request.token,
        label=request.label.model_dump(),
    )
    return LabelReply(sample_id=request.sample_id)


@router.get("/v1/samples/{sample_id}/image", response_class=Response)
async def image(sample_id: str, shared: Shared, model: str | None = None) -> Response:
    """The original bytes of a queued sample, as they were posted."""
    sample = await shared.queue.get(shared.predictor(model).manifest.model, sample_id)
    return Response(await shared.blobs.get(sample.id), media_type=sample.content_type)


def _leased_sample(leased: Leased) -> LeasedSample:
    sample = leased.sample
    prediction: dict[str, Any] = sample.prediction
    return LeasedSample(
        sample_id=sample.id,
        model=sample.model,
        version=sample.version,
        content_type=sample.content_type,
        reasons=list(sample.reasons),
        value=sample.value,
        predicted_loss=sample.predicted_loss,
        score=sample.score,
        ood_score=sample.ood_score,
        prediction=PredictionFields(**prediction),
        flagged_at=sample.flagged_at,
        lease_expires_at=leased.lease_expires_at,
        image=f"/v1/samples/{sample.id}/image?model={sample.model}",
    )
