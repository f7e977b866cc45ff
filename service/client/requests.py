"""Every request that a client can make: pure, shared by both clients.

`service.client` and `service.client.asynchronous` send these calls, each in its own way.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
import orjson
from pydantic import BaseModel

from service.client.transport import Call, ClientError
from service.schemas.drift import DriftReport
from service.schemas.labelling import (
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
PAGE = 500  # labels


class LabelPage(NamedTuple):
    labels: list[LabelLine]
    cursor: str  # of the next page


class CocoPage(NamedTuple):
    document: dict[str, Any]
    cursor: str  # of the next page


def predict(
    image: bytes | Path, *, model: str | None = None, source: str | None = None, operating_point: str | None = None
) -> Call[PredictReply]:
    """image: the bytes of a JPEG, PNG or WebP file, or its path. source: the camera or site that it is from.

    operating_point: the promise that the verdict is to keep, one of the model's; None: the service's own.
    """
    return Call(
        "POST",
        f"/v1/models/{quote(model, safe='')}/predict" if model else "/v1/predict",
        _reads(PredictReply),
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
) -> Call[ManyReply]:
    """Several images in one request, 64 at most (413): each gets its own reply or error, in order."""
    if not images:
        raise ClientError("there is no image to ask about: give at least one")
    files = [("image", ("image", image.read_bytes() if isinstance(image, Path) else image)) for image in images]
    form = httpx.Request("POST", "http://form", files=files)
    one = predict(form.read(), model=model, source=source, operating_point=operating_point)
    headers = {**one.headers, "content-type": form.headers["content-type"]}
    return Call(one.method, one.path, _reads(ManyReply), one.content, one.params, headers)


def model(name: str) -> Call[dict[str, Any]]:
    """What the live bundle of a model says of itself."""
    return Call("GET", f"/v1/models/{quote(name, safe='')}", _json)


def stats(*, model: str | None = None) -> Call[dict[str, int]]:
    """Samples of the queue, by state."""
    return Call("GET", "/v1/queue/stats", _json, params=_of(model))


def drift(*, model: str | None = None) -> Call[DriftReport]:
    """Whether the images of the last hour are still those that the live version of a model was calibrated on."""
    return Call("GET", f"/v1/models/{quote(model, safe='')}/drift" if model else "/v1/drift", _reads(DriftReport))


def lease(
    n: int = 1, *, annotator: str, token: str | None = None, model: str | None = None, lease_s: float | None = None
) -> Call[LeaseReply]:
    """The n most valuable pending samples. With a token of your own the same lease can be asked for again."""
    token = token or uuid.uuid4().hex
    return _post("lease", LeaseRequest(model=model, n=n, annotator=annotator, token=token, lease_s=lease_s), LeaseReply)


def extend(*, annotator: str, token: str, model: str | None = None, lease_s: float | None = None) -> Call[LeaseReply]:
    """Keeps for longer what the lease of a token still holds; the reply says what that is."""
    return _post("extend", ExtendRequest(model=model, annotator=annotator, token=token, lease_s=lease_s), LeaseReply)


def label(  # noqa: PLR0913 - all but two are given by name
    sample: LeasedSample | str,
    values: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    keypoints: Sequence[float] | None = None,
    annotator: str | None = None,
    token: str | None = None,
    model: str | None = None,
) -> Call[LabelReply]:
    """values: [x, y] in image pixels (None: not placed) for each keypoint, or one number for each value of a
    vector, in the order of the task's names or by name. keypoints: instead, x, y, v for each, as COCO has them.
    A sample given by its id needs the annotator.
    """
    listed = dict(values) if isinstance(values, Mapping) else None if values is None else list(values)
    fields = LabelFields(values=listed, keypoints=None if keypoints is None else list(keypoints))
    return _post("label", LabelRequest(**_whose(sample, annotator, token, model), label=fields), LabelReply)


def skip(
    sample: LeasedSample | str, *, annotator: str | None = None, token: str | None = None, model: str | None = None
) -> Call[SkipReply]:
    """Puts a sample back for others; this annotator does not get it again. By id it needs the lease's token."""
    return _post("skip", SkipRequest(**_whose(sample, annotator, token, model)), SkipReply)


def reject(
    sample: LeasedSample | str,
    reason: str,
    *,
    annotator: str | None = None,
    token: str | None = None,
    model: str | None = None,
) -> Call[RejectReply]:
    """No label can be given: takes a sample off the queue for good. While it is leased it needs the lease's token."""
    return _post("reject", RejectRequest(**_whose(sample, annotator, token, model), reason=reason), RejectReply)


def requeue(sample_ids: Sequence[str] | None = None, *, model: str | None = None) -> Call[RequeueReply]:
    """Makes dead letters pending again, all of them when none is named."""
    listed = None if sample_ids is None else list(sample_ids)
    return _post("requeue", RequeueRequest(model=model, sample_ids=listed), RequeueReply)


def sample(sample_id: str, *, model: str | None = None) -> Call[KnownSample]:
    """What is known of a sample."""
    return Call("GET", _sample_path(sample_id), _reads(KnownSample), params=_of(model))


def image(sample: SampleReply | str, *, model: str | None = None) -> Call[bytes]:
    """The original bytes of a sample's image."""
    if isinstance(sample, SampleReply):
        return image(sample.sample_id, model=model or sample.model)
    return Call("GET", f"{_sample_path(sample)}/image", lambda response: response.content, params=_of(model))


def erase(sample_id: str, *, model: str | None = None) -> Call[EraseReply]:
    """Removes a sample everywhere: its image, its place in the queue, its label.

    With several replicas, one that another has accepted and not drained yet can still arrive: ask each of them.
    """
    return Call("DELETE", _sample_path(sample_id), _reads(EraseReply), params=_of(model))


def label_page(cursor: str = "", n: int = PAGE, *, model: str | None = None) -> Call[LabelPage]:
    """Up to n labels, oldest first, and the cursor of the next page; no labels: that is all for now."""
    return Call("GET", "/v1/labels", _label_page, params={"cursor": cursor, "n": str(n), **_of(model)})


def coco_page(cursor: str = "", n: int = PAGE, *, model: str | None = None) -> Call[CocoPage]:
    """As label_page, as a COCO keypoints document. Ids are the same on every page: lists can be joined."""
    params = {"cursor": cursor, "n": str(n), "format": "coco", **_of(model)}
    return Call(
        "GET", "/v1/labels", lambda reply: CocoPage(_json(reply), reply.headers["x-next-cursor"]), params=params
    )


def _post(operation: str, request: BaseModel, reply: type[Reply]) -> Call[Reply]:
    content = request.model_dump_json(exclude_none=True).encode()
    headers = {"content-type": "application/json"}
    return Call("POST", f"/v1/queue/{operation}", _reads(reply), content=content, headers=headers)


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


def _reads(reply: type[Reply]) -> Callable[[httpx.Response], Reply]:
    """A newer service may say more than this client knows: that is no error."""
    return lambda response: reply.model_validate_json(response.content, extra="ignore")


def _json(response: httpx.Response) -> Any:
    return orjson.loads(response.content)


def _label_page(response: httpx.Response) -> LabelPage:
    lines = [LabelLine.model_validate_json(line, extra="ignore") for line in response.content.splitlines()]
    return LabelPage(lines, response.headers["x-next-cursor"])
