"""Every request that a client can make. Pure; both clients send these, each in its own way."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
import orjson
from pydantic import BaseModel

from service.client.building import model_path, post_to, reads
from service.client.transport import ApiRequest, ClientError
from service.schemas.drift import DriftReport
from service.schemas.labelling import (
    AuditsReply,
    EraseReply,
    ExtendRequest,
    KnownSample,
    LabelFields,
    LabelLine,
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
from service.schemas.predictions import MAX_SOURCE, ManyReply, PredictReply, is_source

Reply = TypeVar("Reply", bound=BaseModel)
LABELS_PER_PAGE = 500


class LabelLinePage(NamedTuple):
    labels: list[LabelLine]
    cursor: str  # of the next page


class CocoPage(NamedTuple):
    document: dict[str, Any]
    cursor: str  # of the next page


def predict(
    image: bytes | Path, *, model: str | None = None, source: str | None = None, operating_point: str | None = None
) -> ApiRequest[PredictReply]:
    """image: the bytes of a JPEG, PNG or WebP file, or its path. source: the camera or site that took it.

    operating_point: one of the model's; the verdict keeps its guarantee. None: the default of the service.
    """
    return ApiRequest(
        "POST",
        f"{model_path(model)}/predict" if model else "/v1/predict",
        reads(PredictReply),
        content=image.read_bytes() if isinstance(image, Path) else image,
        params={"operating_point": operating_point} if operating_point is not None else {},
        headers={"content-type": "application/octet-stream", **_source(source)},
    )


def predict_many(
    images: Sequence[bytes | Path],
    *,
    model: str | None = None,
    source: str | None = None,
    operating_point: str | None = None,
) -> ApiRequest[ManyReply]:
    """Sends at most 64 images in one request (413 for more). Each gets its own reply or error, in their order."""
    if not images:
        raise ClientError("there is no image to ask about: give at least one")
    files = [("image", ("image", image.read_bytes() if isinstance(image, Path) else image)) for image in images]
    form = httpx.Request("POST", "http://form", files=files)
    one = predict(form.read(), model=model, source=source, operating_point=operating_point)
    headers = {**one.headers, "content-type": form.headers["content-type"]}
    return ApiRequest(one.method, one.path, reads(ManyReply), one.content, one.params, headers)


def model(name: str) -> ApiRequest[dict[str, Any]]:
    """The facts that a model's live bundle states: task, loss unit, operating points, evaluation."""
    return ApiRequest("GET", model_path(name), _json)


def stats(*, model: str | None = None) -> ApiRequest[dict[str, int]]:
    """The number of the queue's samples in each state."""
    return ApiRequest("GET", "/v1/queue/stats", _json, params=_of(model))


def drift(*, model: str | None = None) -> ApiRequest[DriftReport]:
    """Whether the images of the last hour still look like those that the live version was calibrated on."""
    return ApiRequest("GET", f"{model_path(model)}/drift" if model else "/v1/drift", reads(DriftReport))


def audits(*, model: str | None = None, start: int = 0, n: int = 100) -> ApiRequest[AuditsReply]:
    """Samples of the audit lane that have no label yet, the newest first, without the first `start`."""
    params = {**_of(model), "start": str(start), "n": str(n)}
    return ApiRequest("GET", "/v1/queue/audits", reads(AuditsReply), params=params)


def lease(
    n: int = 1, *, annotator: str, token: str | None = None, model: str | None = None, lease_s: float | None = None
) -> ApiRequest[LeaseReply]:
    """Leases the n most valuable pending samples. Repeat a request with the same token to get the same samples."""
    token = token or uuid.uuid4().hex
    return _post("lease", LeaseRequest(model=model, n=n, annotator=annotator, token=token, lease_s=lease_s), LeaseReply)


def extend(
    *, annotator: str, token: str, model: str | None = None, lease_s: float | None = None
) -> ApiRequest[LeaseReply]:
    """Extends the lease of a token. The reply lists the samples that it still holds."""
    return _post("extend", ExtendRequest(model=model, annotator=annotator, token=token, lease_s=lease_s), LeaseReply)


def label(  # noqa: PLR0913 - all but two are keyword-only
    sample: LeasedSample | str,
    values: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    keypoints: Sequence[float] | None = None,
    annotator: str | None = None,
    token: str | None = None,
    model: str | None = None,
) -> ApiRequest[LabelReply]:
    """values: [x, y] in image pixels for each keypoint (None: not placed), or one number for each value of a
    vector; in the order of the task's names, or by name. keypoints: use it instead of values to give x, y, v for each,
    as COCO does. A sample that is given by its id needs the annotator.
    """
    listed = dict(values) if isinstance(values, Mapping) else None if values is None else list(values)
    fields = LabelFields(values=listed, keypoints=None if keypoints is None else list(keypoints))
    return _post("label", LabelRequest(**_whose(sample, annotator, token, model), label=fields), LabelReply)


def skip(
    sample: LeasedSample | str, *, annotator: str | None = None, token: str | None = None, model: str | None = None
) -> ApiRequest[SkipReply]:
    """Returns a sample to the queue for others; this annotator does not get it again. An id needs the lease's token."""
    return _post("skip", SkipRequest(**_whose(sample, annotator, token, model)), SkipReply)


def reject(
    sample: LeasedSample | str,
    reason: str,
    *,
    annotator: str | None = None,
    token: str | None = None,
    model: str | None = None,
) -> ApiRequest[RejectReply]:
    """Removes a sample from the queue because it cannot be labelled. A leased sample needs the lease's token."""
    return _post("reject", RejectRequest(**_whose(sample, annotator, token, model), reason=reason), RejectReply)


def requeue(sample_ids: Sequence[str] | None = None, *, model: str | None = None) -> ApiRequest[RequeueReply]:
    """Makes dead letters pending again: the given ones, or all."""
    listed = None if sample_ids is None else list(sample_ids)
    return _post("requeue", RequeueRequest(model=model, sample_ids=listed), RequeueReply)


def sample(sample_id: str, *, model: str | None = None) -> ApiRequest[KnownSample]:
    """Everything the service knows about a sample."""
    return ApiRequest("GET", _sample_path(sample_id), reads(KnownSample), params=_of(model))


def image(sample: SampleReply | str, *, model: str | None = None) -> ApiRequest[bytes]:
    """The original bytes of a sample's image."""
    if isinstance(sample, SampleReply):
        return image(sample.sample_id, model=model or sample.model)
    return ApiRequest("GET", f"{_sample_path(sample)}/image", lambda response: response.content, params=_of(model))


def erase(sample_id: str, *, model: str | None = None) -> ApiRequest[EraseReply]:
    """Removes a sample everywhere: its image, its place in the queue and its label.

    With several replicas, ask each of them: a sample that another replica has accepted but not yet drained can still
    arrive.
    """
    return ApiRequest("DELETE", _sample_path(sample_id), reads(EraseReply), params=_of(model))


def label_page(cursor: str = "", n: int = LABELS_PER_PAGE, *, model: str | None = None) -> ApiRequest[LabelLinePage]:
    """At most n labels, oldest first, and the cursor of the next page. A page without labels is the end for now."""
    return ApiRequest("GET", "/v1/labels", _label_page, params={"cursor": cursor, "n": str(n), **_of(model)})


def coco_page(cursor: str = "", n: int = LABELS_PER_PAGE, *, model: str | None = None) -> ApiRequest[CocoPage]:
    """Like label_page, but as a COCO keypoints document. Ids agree over pages, so pages can be joined."""
    params = {"cursor": cursor, "n": str(n), "format": "coco", **_of(model)}
    return ApiRequest(
        "GET", "/v1/labels", lambda reply: CocoPage(_json(reply), reply.headers["x-next-cursor"]), params=params
    )


def _post(operation: str, request: BaseModel, reply: type[Reply]) -> ApiRequest[Reply]:
    return post_to(f"/v1/queue/{operation}", request, reply)


def _whose(sample: LeasedSample | str, annotator: str | None, token: str | None, model: str | None) -> dict[str, Any]:
    if isinstance(sample, LeasedSample):
        sample_id, annotator, token = sample.sample_id, annotator or sample.annotator, token or sample.token
        return {"sample_id": sample_id, "annotator": annotator, "token": token, "model": model or sample.model}
    return {"sample_id": sample, "annotator": annotator, "token": token or uuid.uuid4().hex, "model": model}


def _sample_path(sample_id: str) -> str:
    return f"/v1/samples/{quote(sample_id, safe='')}"


def _of(model: str | None) -> dict[str, str]:
    return {"model": model} if model else {}


def _source(source: str | None) -> dict[str, str]:
    if source is not None and not is_source(source):
        raise ClientError(f"a source is a name of at most {MAX_SOURCE} printable ASCII characters, not {source!r}")
    return {"x-source": source} if source else {}


def _json(response: httpx.Response) -> Any:
    return orjson.loads(response.content)


def _label_page(response: httpx.Response) -> LabelLinePage:
    lines = [LabelLine.model_validate_json(line, extra="ignore") for line in response.content.splitlines()]
    return LabelLinePage(lines, response.headers["x-next-cursor"])
