"""Clients that do not give up: posters of lossy images, and annotators who lease, label, skip, reject or go away.

A request without an answer is sent again, as it was, until there is one; that is what tokens are for.
"""

import itertools
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from service.labelling.samples.sample import sample_id
from tests.faults.campaign.ledger import Ledger

MODEL = "tiny"
RETRY_S = 0.05
TIMEOUT_S = 20.0
LABEL = {"values": [[2.0, 2.0], [6.0, 6.0]]}


@dataclass(frozen=True, slots=True)
class Manners:
    """Of an annotator: what becomes of a leased sample, as probabilities; the rest is labelled."""

    n: int = 10
    lease_s: float = 2.0
    abandon: float = 0.05
    skip: float = 0.02
    reject: float = 0.02
    erase: float = 0.005  # after the label
    pause_s: float = 0.02  # between leases


class Load:
    """Threads against some replicas. Posters stop at `end_posting` when enough were posted, annotators at `end`."""

    def __init__(self, urls: Sequence[str], ledger: Ledger, seed: int, images: Iterator[bytes]) -> None:
        self._urls, self._ledger, self._seed = urls, ledger, seed
        self._images, self._images_lock = images, threading.Lock()
        self._enough, self._over = threading.Event(), threading.Event()
        self._posters: list[threading.Thread] = []
        self._annotators: list[threading.Thread] = []
        self._tokens = itertools.count()

    def start(self, posters: int, pace_s: float, at_least: int, annotators: int, manners: Manners) -> None:
        for number in range(posters):
            share = -(-at_least // posters)
            self._posters.append(self._run(self._post, number, pace_s, share))
        for number in range(annotators):
            self._annotators.append(self._run(self._annotate, number, manners))

    def end_posting(self) -> None:
        self._enough.set()
        for thread in self._posters:
            thread.join()

    def end(self) -> None:
        self.end_posting()
        self._over.set()
        for thread in self._annotators:
            thread.join()

    def _run(self, target: Any, number: int, *arguments: Any) -> threading.Thread:
        rng = random.Random(f"{self._seed} {target.__name__} {number}")

        def guarded() -> None:
            try:
                target(rng, number, *arguments)
            except Exception as error:  # noqa: BLE001 - a thread that dies must not go unseen
                self._ledger.problem(f"{target.__name__} {number} failed: {error!r}")

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _post(self, rng: random.Random, number: int, pace_s: float, at_least: int) -> None:
        with _clients(self._urls) as clients:
            for posted in itertools.count():
                if self._over.is_set() or (posted >= at_least and self._enough.is_set()):
                    return
                with self._images_lock:
                    image = next(self._images)
                first = (number + posted) % len(clients)
                self._post_one(clients[first], image)
                if len(clients) > 1 and rng.random() < 0.2:
                    self._post_one(clients[first - 1], image)  # the same image to another replica
                self._enough.wait(pace_s * rng.random() * 2)

    def _post_one(self, client: httpx.Client, image: bytes) -> None:
        self._ledger.post(sample_id(MODEL, image))
        headers = {"content-type": "image/png"}
        reply = self._until_answered(client, "POST", "/v1/predict", content=image, headers=headers)
        if reply is None:
            return
        if reply.status_code != httpx.codes.OK:
            self._ledger.problem(f"predict answered {reply.status_code}: {reply.text[:200]}")
            return
        answer = reply.json()
        self._ledger.note(answer["queue"])
        if answer["queue"] == "accepted":
            self._ledger.accept(answer["sample_id"])

    def _annotate(self, rng: random.Random, number: int, manners: Manners) -> None:
        with _clients(self._urls) as clients:
            while not self._over.is_set():
                request = {"annotator": f"annotator-{number}", "token": f"{self._seed}-{next(self._tokens)}"}
                lease = {**request, "n": manners.n, "lease_s": manners.lease_s}
                reply = self._until_answered(rng.choice(clients), "POST", "/v1/queue/lease", json=lease)
                if reply is None:
                    return
                samples = reply.json()["samples"]
                self._ledger.note("leases")
                self._ledger.lease(samples)
                for sample in samples:
                    self._treat(rng, rng.choice(clients), request, sample["sample_id"], manners)
                self._over.wait(manners.pause_s)

    def _treat(
        self, rng: random.Random, client: httpx.Client, request: dict[str, str], which: str, manners: Manners
    ) -> None:
        fates = ("abandon", "skip", "reject", "label")
        weights = (manners.abandon, manners.skip, manners.reject)
        fate = rng.choices(fates, (*weights, 1 - sum(weights)))[0]
        self._ledger.note(fate)
        if fate == "abandon":
            return
        body: dict[str, Any] = {**request, "sample_id": which}
        body |= {"label": LABEL} if fate == "label" else {"reason": "blurred"} if fate == "reject" else {}
        reply = self._until_answered(client, "POST", f"/v1/queue/{fate}", json=body)
        if reply is None:
            return
        if reply.status_code == httpx.codes.OK and fate == "label":
            self._ledger.label(which, request["annotator"])
            if rng.random() < manners.erase:
                self._ledger.erase(which)
                self._until_answered(client, "DELETE", f"/v1/samples/{which}")
        elif reply.status_code == httpx.codes.OK and fate == "reject":
            self._ledger.reject(which)
        elif reply.status_code in {httpx.codes.CONFLICT, httpx.codes.NOT_FOUND}:
            self._ledger.note(f"{fate} refused")
        elif reply.status_code != httpx.codes.OK:
            self._ledger.problem(f"{fate} answered {reply.status_code}: {reply.text[:200]}")

    def _until_answered(self, client: httpx.Client, method: str, path: str, **parts: Any) -> httpx.Response | None:
        """The first reply that is not 503, 504 or 429; None when the load ends before."""
        while not self._over.is_set():
            try:
                reply = client.request(method, path, **parts)
            except httpx.TransportError:
                self._ledger.note("no answer")
            else:
                if reply.status_code not in {429, 503, 504}:
                    return reply
                self._ledger.note(f"answer {reply.status_code}")
            self._over.wait(RETRY_S)
        return None


class _clients:  # noqa: N801 - used as a function
    def __init__(self, urls: Sequence[str]) -> None:
        self._clients = [httpx.Client(base_url=url, timeout=TIMEOUT_S) for url in urls]

    def __enter__(self) -> list[httpx.Client]:
        return self._clients

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
