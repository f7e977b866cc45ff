"""What a refinement asks of the service, over HTTP: any host with its URL and a key can refine."""

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from models.refinement.config import Busy, RefinementError

DEFAULT_URL = "http://127.0.0.1:8000"
URL, KEY = "LOSSCAST_URL", "LOSSCAST_API_KEY"  # variables
TIMEOUT_S = 30.0
TELLING = 300  # letters of a refusal


class ServiceAway(RefinementError):  # noqa: N818 - the condition is the name
    """The service does not answer, or is not ready."""


class ServiceApi:
    """Of one service. Methods raise ServiceAway, Busy for a conflict, and RefinementError for any other refusal."""

    def __init__(self, url: str | None = None) -> None:
        """url: unset, LOSSCAST_URL, else the address of a service on this host. The key is LOSSCAST_API_KEY."""
        self.url = (url or os.environ.get(URL) or DEFAULT_URL).rstrip("/")
        key = os.environ.get(KEY)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def take_lock(self, model: str, holder: str, length_s: float, above: int) -> int:
        """The token. Raises Busy while another refinement has the lock."""
        body: dict[str, str | float] = {"holder": holder, "length_s": length_s, "above": above}
        return int(self._ask("POST", _lock(model), body)["token"])

    def keep_lock(self, model: str, token: int, length_s: float) -> None:
        """Raises Busy if the lock was lost."""
        self._ask("PUT", _lock(model), {"token": token, "length_s": length_s})

    def drop_lock(self, model: str, token: int) -> None:
        self._ask("DELETE", _lock(model), params={"token": str(token)})

    def labelled(self, model: str) -> int:
        """Samples that have been labelled so far."""
        return int(self._ask("GET", "/v1/queue/stats", params={"model": model})["labelled"])

    def is_in_drift(self, model: str) -> bool:
        """False too while there is no report."""
        try:
            return bool(self._ask("GET", f"/v1/models/{model}/drift")["state"] == "drift")
        except ServiceAway:
            return False

    def promote(self, model: str, candidate: str, expected_live: int, who: str, reason: str) -> None:
        """Makes a candidate live. Raises Busy (a conflict) when another version is live by now."""
        body = {"candidate": candidate, "expected_live": str(expected_live), "who": who, "reason": reason}
        self._ask("POST", f"/v1/models/{model}/promote", body)

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, str | float] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        try:
            reply = self._http.request(method, path, json=body, params=params)
            content: dict[str, Any] = reply.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ServiceAway(f"the service at {self.url} does not answer: {error or type(error).__name__}") from error
        if reply.is_success:
            return content
        try:
            told = str(content["error"]["message"])[:TELLING]
        except (KeyError, TypeError):
            told = f"{method} {path} gave {reply.status_code}"
        kind = {409: Busy, 429: ServiceAway, 503: ServiceAway}.get(reply.status_code, RefinementError)
        raise kind(told)


def _lock(model: str) -> str:
    return f"/v1/models/{model}/refinement"
