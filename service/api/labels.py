"""Samples by their id, and the labels that came back: NDJSON for programs, COCO for annotation tools."""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from service.errors import NotFound, Unavailable
from service.formats.coco import document
from service.inference.decode import sniff
from service.labelling.endings import Ending
from service.labelling.journal.errors import JournalUnavailable
from service.labelling.journal.journal import Journal
from service.labelling.queue.label_queue import LabelRecord
from service.labelling.samples.fields import line_fields, reply_fields
from service.resources import Shared, queue_of
from service.schemas.labelling import EraseReply, KnownSample, LabelLine, LabelsQuery
from service.schemas.predictions import ErrorReply

router = APIRouter(tags=["labelling"], responses={code: {"model": ErrorReply} for code in (400, 404, 503)})


class NdjsonResponse(Response):
    media_type = "application/x-ndjson"


LABELS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": LabelLine,
        "description": "A page of labels. Send X-Next-Cursor as `cursor` for the next page, now or later.",
        "content": {"application/json": {"schema": {"type": "object", "title": "COCO keypoints"}}},
    }
}


@router.get("/v1/samples/{sample_id}")
async def sample(sample_id: str, shared: Shared, model: str | None = None) -> KnownSample:
    """All that is known about a sample, and its state."""
    known = await shared.queue.look(await queue_of(shared, model), sample_id)
    return KnownSample(**reply_fields(known.sample), state=known.state, reject_reason=known.reject_reason)


@router.get("/v1/samples/{sample_id}/image", response_class=Response)
async def image(sample_id: str, shared: Shared, model: str | None = None) -> Response:
    """The image of a sample, as it was posted. A labelled sample keeps its image until it is erased."""
    data = await shared.blobs.get(await shared.queue.image(await queue_of(shared, model), sample_id))
    return Response(data, media_type=sniff(data))


@router.delete("/v1/samples/{sample_id}")
async def erase(sample_id: str, shared: Shared, model: str | None = None) -> EraseReply:
    """Removes a sample everywhere: its image, its place in the queue, its label. Repeating this does no harm.

    From now on nothing of it is given out. The janitor deletes its file from the blob store within seconds. A sample
    that is still in the journal, on its way to the queue, cannot be erased yet: 503, try again in seconds. The answer
    covers the queue, the images and the journal of this replica. A sample that another replica has accepted and not
    drained yet can still arrive. So, with several replicas, ask each of them, or ask again once every journal is
    drained (`losscast_journal_rows` is 0).
    """
    model = await queue_of(shared, model)
    is_journalled = await _is_journalled(sample_id, shared.journal)  # asked first: it may reach the queue meanwhile
    try:
        await shared.endings.end(Ending("erasure", model, sample_id))
    except NotFound:
        if is_journalled:
            raise Unavailable(f"sample {sample_id} is on its way from the journal into the queue: try again") from None
        return EraseReply(sample_id=sample_id, erased=False)
    await _forget(sample_id, shared.journal)
    return EraseReply(sample_id=sample_id, erased=True)


@router.get("/v1/labels", response_class=NdjsonResponse, responses=LABELS)
async def labels(request: Request, shared: Shared, query: Annotated[LabelsQuery, Query()]) -> Response:
    """Labels in the order in which they came. A page without labels is the last one for now."""
    model = await queue_of(shared, query.model)
    page = await shared.queue.labels(model, query.cursor, query.n)
    following = request.url.include_query_params(cursor=page.cursor)
    headers = {"x-next-cursor": page.cursor}
    if len(page.labels) == query.n:
        headers["link"] = f'<{following.path}?{following.query}>; rel="next"'
    if query.format == "coco":
        return Response(
            orjson.dumps(document(shared.models.manifest(model).task, page.labels)), 200, headers, "application/json"
        )
    return NdjsonResponse(_lines(page.labels), 200, headers)


async def _is_journalled(sample_id: str, journal: Journal) -> bool:
    try:
        return await journal.holds(sample_id)
    except JournalUnavailable as error:
        raise Unavailable(f"whether {sample_id} is erased is not known: {error}") from error


async def _forget(sample_id: str, journal: Journal) -> None:
    """Deletes a sample from the journal. The queue knows that it was erased, and refuses it if the drain brings it."""
    try:
        await journal.forget(sample_id)
    except JournalUnavailable as error:
        raise Unavailable(f"{sample_id} is erased but for its image in the journal: try again: {error}") from error


def _lines(records: Sequence[LabelRecord]) -> bytes:
    return b"".join(orjson.dumps(line_fields(record), option=orjson.OPT_APPEND_NEWLINE) for record in records)
