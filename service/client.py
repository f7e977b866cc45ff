"""LosscastClient: the service from Python. Used by the command line and by users."""

import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from service.schemas import LabelFields, LabelReply, LabelRequest, LeaseReply, LeaseRequest, PredictReply

DEFAULT_URL = "http://127.0.0.1:8000"


class ClientError(Exception):
    """The service refused or could not be reached; the message is one line that says what to do."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status  # None: it could not be reached


class LosscastClient:
    """Talks to one service; close it, or use it as a context manager. Methods raise ClientError.

    >>> with LosscastClient("http://127.0.0.1:8000") as client:
    ...     reply = client.predict(Path("photo.jpg"))
    ...     print(reply.predicted_loss, reply.verdict.lossy)
    """

    def __init__(self, url: str = DEFAULT_URL, *, api_key: str | None = None, timeout_s: float = 30.0) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def predict(self, image: bytes | Path, *, model: str | None = None) -> PredictReply:
        """image: the bytes of a JPEG, PNG or WebP file, or its path."""
        body = image.read_bytes() if isinstance(image, Path) else image
        path = f"/v1/models/{model}/predict" if model else "/v1/predict"
        headers = {"content-type": "application/octet-stream"}  # the service goes by content
        return PredictReply.model_validate_json(self._send("POST", path, content=body, headers=headers))

    def lease(
        self,
        n: int = 1,
        *,
        annotator: str,
        token: str | None = None,
        model: str | None = None,
        lease_s: float | None = None,
    ) -> LeaseReply:
        """The n most valuable pending samples. Give a token of your own to be able to retry."""
        request = LeaseRequest(model=model, n=n, annotator=annotator, token=token or uuid.uuid4().hex, lease_s=lease_s)
        return LeaseReply.model_validate_json(self._post("/v1/queue/lease", request.model_dump_json()))

    def image(self, sample_id: str, *, model: str | None = None) -> bytes:
        """The original bytes of a queued sample."""
        return self._send("GET", f"/v1/samples/{sample_id}/image", params=_query(model))

    def label(
        self,
        sample_id: str,
        values: Sequence[Any],
        *,
        annotator: str,
        token: str | None = None,
        model: str | None = None,
    ) -> LabelReply:
        """values: [[x, y], ...] in image pixels for keypoints, one number per name for a vector."""
        request = LabelRequest(
            model=model,
            sample_id=sample_id,
            annotator=annotator,
            token=token or uuid.uuid4().hex,
            label=LabelFields(values=list(values)),
        )
        return LabelReply.model_validate_json(self._post("/v1/queue/label", request.model_dump_json()))

    def stats(self, *, model: str | None = None) -> dict[str, int]:
        """Samples of the queue, by state."""
        counts: dict[str, int] = orjson.loads(self._send("GET", "/v1/queue/stats", params=_query(model)))
        return counts

    def model(self, name: str) -> dict[str, Any]:
        """What the live bundle of a model says of itself."""
        manifest: dict[str, Any] = orjson.loads(self._send("GET", f"/v1/models/{name}"))
        return manifest

    def _post(self, path: str, body: str) -> bytes:
        return self._send("POST", path, content=body, headers={"content-type": "application/json"})

    def _send(self, method: str, path: str, **request: Any) -> bytes:
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise ClientError(
                f"no answer from {self._http.base_url}: {error}; is `losscast serve` running there?"
            ) from error
        if response.is_error:
            raise ClientError(_message(response), response.status_code)
        return response.content


def _query(model: str | None) -> dict[str, str]:
    return {"model": model} if model else {}


def _message(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code} from {response.url}: is this a Losscast service?"
    return str(error["message"] if isinstance(error, dict) else error)
