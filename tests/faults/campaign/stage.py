"""One queue with everything around it: a Redis, replicas, clients, and checks of the replies that clients got."""

import functools
import hashlib
import operator
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from service.labelling.samples.sample import sample_id
from tests.faults.campaign import account
from tests.faults.campaign.images import lossy_images
from tests.faults.campaign.ledger import Ledger, is_disordered
from tests.faults.campaign.load import MODEL, Load
from tests.faults.campaign.servers import RedisServer, Replica, connect

QUIET_S = 180.0  # for the journals to empty and for leases to run out


@dataclass
class Report:
    """Of one chapter."""

    name: str
    what: str
    skipped: str = ""  # why
    faults: dict[str, int] = field(default_factory=dict)
    ids: int = 0  # distinct, accepted in a reply, and found again after every fault and at the end
    checks: int = 0  # times that all ids so far were looked for
    labels: int = 0  # events in the label stream, each compared with the state of its sample
    images: int = 0  # files in the blob store, each hashed to its id
    states: dict[str, int] = field(default_factory=dict)  # where they are in the end
    replies: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Stage:
    def __init__(self, folder: Path, report: Report, rng: random.Random, settings: Mapping[str, str]) -> None:
        self.folder, self.report, self.rng = folder, report, rng
        self.ledger = Ledger()
        self.blobs = folder / "blobs"
        self.redis: RedisServer | None = None
        self.replicas: list[Replica] = []
        self._settings = dict(settings)
        self._seed = rng.randrange(2**32)

    def add_redis(self, appendfsync: str = "everysec", *, start: bool = True) -> RedisServer:
        self.redis = RedisServer(self.folder / "redis", appendfsync)
        if start:
            self.redis.start()
        self._settings["LOSSCAST_REDIS_URL"] = f"unix://{self.redis.socket}"
        return self.redis

    def add_replica(self, *, start: bool = True, **settings: str) -> Replica:
        """Replicas share Redis and the blobs; each has its own journal."""
        environment = {**self._settings, "LOSSCAST_BLOBS": str(self.blobs), **settings}
        replica = Replica(self.folder / f"replica-{len(self.replicas)}", environment)
        self.replicas.append(replica)
        if start:
            replica.start()
        return replica

    def load(self) -> Load:
        return Load([replica.url for replica in self.replicas], self.ledger, self._seed, lossy_images(self._seed))

    @property
    def client(self) -> Any:
        """A client of Redis; of the first replica's private one if the stage has no other."""
        if self.redis is None:
            return connect(self.replicas[0].state / "valkey" / "valkey.sock")
        return self.redis.client

    def fault(self, name: str, times: int = 1, *, forgets: bool = False) -> None:
        """forgets: the queue's server may lose the writes of its last seconds."""
        self.ledger.server_may_forget |= forgets
        self.report.faults[name] = self.report.faults.get(name, 0) + times

    def check(self) -> None:
        """Every id so far, against what is on the disks and in Redis at this moment.

        In this order, because a sample leaves the journal only when it is in Redis.
        """
        told = self.ledger.copy()
        journals = self._journals()
        now = account.look(self.client)
        posted = self.ledger.copy().posted
        self.report.checks += 1
        self._blame(
            account.missing(told, journals, now, posted)
            + account.unlabelled(told, journals, now)
            + account.contradictions(now)
        )

    def finish(self) -> None:
        """The checks at the end: journals are empty, the rest is leased in order, labels and images are right."""
        self._until("the journals are empty", self._are_drained)
        self._until("leases have run out", self._are_leases_over)
        self.check()
        self._lease_the_rest()
        self.check()
        now = account.look(self.client)
        self._blame(self._pages(now) + self._images() + self._stats(now))
        self.report.ids = len(self.ledger.copy().accepted)
        self.report.states = dict(Counter(item.state for item in now.items.values()))
        self.report.replies = dict(self.ledger.counts)
        self.report.problems += self.ledger.problems

    def close(self) -> None:
        for replica in self.replicas:
            if replica.is_alive:
                replica.stop()
        if self.redis:
            self.redis.close()

    def until_labels_grow(self, by: int) -> None:
        """Work goes on: that many more labels were confirmed."""
        goal = len(self.ledger.copy().labelled) + by
        self._until(f"{by} more labels are given", lambda: len(self.ledger.copy().labelled) >= goal)

    def until_accepted(self, by: int) -> None:
        goal = len(self.ledger.copy().accepted) + by
        self._until(f"{by} more samples are accepted", lambda: len(self.ledger.copy().accepted) >= goal)

    def until_pending(self, n: int) -> None:
        self._until(f"{n} samples are pending", lambda: len(account.look(self.client).ids("pending")) >= n)

    def until_noted(self, name: str, by: int) -> None:
        goal = self.ledger.counts[name] + by
        self._until(f"{by} more times: {name}", lambda: self.ledger.counts[name] >= goal)

    def until_refused(self) -> None:
        """The queue's server takes no more, so the drain fails."""
        before = self._drain_errors()
        self._until("the server refuses samples", lambda: self._drain_errors() > before)

    def until_rows_go(self) -> None:
        """The journals make room by themselves, though new samples come."""
        first = self._oldest_rows()
        self._until("the oldest rows leave the journals", lambda: self._oldest_rows() != first)

    def until_all_labelled(self) -> None:
        """Nothing is journalled, pending or leased any more."""
        self._until("all is labelled", lambda: self._are_drained() and not self._open())

    def _drain_errors(self) -> float:
        metrics = httpx.get(f"{self.replicas[0].url}/metrics", timeout=30).raise_for_status().text
        found = re.search(r"^losscast_drain_errors_total (\S+)", metrics, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def _oldest_rows(self) -> list[str | None]:
        return [account.oldest(replica.state) for replica in self.replicas]

    def _open(self) -> set[str]:
        return account.look(self.client).ids("arriving", "pending", "leased")

    def _until(self, what: str, condition: Any) -> None:
        deadline = time.monotonic() + QUIET_S
        while not condition():
            if time.monotonic() > deadline:
                self.report.problems.append(f"not within {QUIET_S:g} s: {what}")
                return
            time.sleep(0.05)

    def _are_drained(self) -> bool:
        return self._journals() == account.Journalled()

    def _journals(self) -> account.Journalled:
        found = [account.journalled(replica.state, is_alive=replica.is_alive) for replica in self.replicas]
        return functools.reduce(operator.or_, found, account.Journalled())

    def _are_leases_over(self) -> bool:
        expiries = self.client.zrange(f"losscast:{{{MODEL}}}:queue:leased", 0, -1, withscores=True)
        seconds, micros = self.client.time()
        return all(expiry < seconds * 1e6 + micros for _, expiry in expiries)

    def _lease_the_rest(self) -> None:
        leased: list[dict[str, Any]] = []
        with httpx.Client(base_url=self.replicas[0].url, timeout=60) as http:
            while True:
                request = {"annotator": "last", "token": f"last-{len(leased)}", "n": 100, "lease_s": 3600}
                reply = http.post("/v1/queue/lease", json=request).raise_for_status().json()["samples"]
                if not reply:
                    break
                leased += reply
        if is_disordered(leased):
            self._blame(["what was left was not leased in order of value"])
        ids = [one["sample_id"] for one in leased]
        if len(set(ids)) < len(ids):
            self._blame(["what was left was leased twice"])
        if left := account.look(self.client).ids("pending"):
            self._blame([f"{len(left)} are pending and cannot be leased"])

    def _pages(self, now: account.Look) -> list[str]:
        """All labels over HTTP: one for each labelled sample."""
        ids = [line["sample_id"] for line in self._lines()]
        self.report.labels = len(ids)
        wrong = []
        if len(set(ids)) < len(ids):
            wrong.append("/v1/labels shows a sample twice")
        if set(ids) != now.ids("labelled"):
            wrong.append(f"/v1/labels and labelled items differ in {len(set(ids) ^ now.ids('labelled'))}")
        return wrong

    def _lines(self) -> Iterator[dict[str, Any]]:
        cursor = ""
        with httpx.Client(base_url=self.replicas[-1].url, timeout=60) as http:
            while True:
                reply = http.get("/v1/labels", params={"cursor": cursor, "n": 1000}).raise_for_status()
                if not reply.content:
                    return
                yield from map(orjson.loads, reply.content.splitlines())
                cursor = reply.headers["x-next-cursor"]

    def _images(self) -> list[str]:
        wanted = account.images(self.client)
        spoilt = {one for one, name in wanted.items() if self._image_id(name) != one}
        self.report.images = len(wanted) - len(spoilt)
        return [f"images gone or changed: {len(spoilt)}, e.g. {sorted(spoilt)[:5]}"] if spoilt else []

    def _image_id(self, name: str) -> str | None:
        file = self.blobs / name
        return sample_id(MODEL, file.read_bytes()) if file.exists() else None

    def _stats(self, now: account.Look) -> list[str]:
        stats = httpx.get(f"{self.replicas[0].url}/v1/queue/stats", timeout=30).raise_for_status().json()
        states = ("pending", "leased", "labelled", "rejected", "dead", "evicted", "erased")
        wrong = [name for name in states if not now.agrees(name, stats[name])]
        if stats["accepted"] != sum(stats[name] for name in states):
            wrong.append("accepted")
        return [f"/v1/queue/stats contradicts the keys in {', '.join(wrong)}: {stats}"] if wrong else []

    def _blame(self, problems: list[str]) -> None:
        known = {_without_numbers(problem) for problem in self.report.problems}
        self.report.problems += [problem for problem in problems if _without_numbers(problem) not in known]


def _without_numbers(text: str) -> str:
    """So that one fault is reported once and not after every check that follows."""
    return text.split(":", maxsplit=1)[0]


@contextmanager
def opened(folder: Path, report: Report, seed: int, settings: Mapping[str, str]) -> Iterator[Stage]:
    digest = hashlib.sha256(f"{seed} {report.name}".encode()).digest()
    stage = Stage(folder, report, random.Random(digest), settings)
    started_s = time.monotonic()
    try:
        yield stage
    finally:
        stage.close()
        report.seconds = time.monotonic() - started_s
