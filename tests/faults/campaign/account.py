"""The account: where every sample is, read from the journals' files and from Redis, without code of the service.

A look at Redis is one MULTI, so its keys are of one moment, under load as well.
"""

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import redis

from tests.faults.campaign.ledger import Told
from tests.faults.campaign.load import MODEL

LANES = ("predicted_loss", "ood_score", "audit")
LIVE = ("pending", "leased", "dead")
FINAL = ("labelled", "rejected", "evicted", "erased")
FORGOTTEN = ("rejected", "evicted", "erased")  # past retention, or when the image comes again; counters keep them
SHOWN = 5  # ids in a message


@dataclass(frozen=True, slots=True)
class Item:
    state: str
    lane: str
    value: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Look:
    """The queue at one moment."""

    items: dict[str, Item]
    lanes: dict[str, list[str]]
    ages: set[str]
    leased: set[str]
    leases: set[str]
    dead: set[str]
    finished: set[str]
    tombstones: set[str]
    samples: set[str]
    receipts: set[str]
    events: list[str]  # ids in the label stream, one for each event
    counts: dict[str, str]

    def ids(self, *states: str) -> set[str]:
        return {sample_id for sample_id, item in self.items.items() if item.state in states}

    def agrees(self, state: str, n: int) -> bool:
        """Whether the queue may have counted n samples in that state."""
        there = len(self.ids(state))
        return n >= there if state in FORGOTTEN else n == there

    @property
    def forgotten(self) -> int:
        """How many samples ended and have no item any more."""
        return sum(int(self.counts.get(state, 0)) for state in FORGOTTEN) - len(self.ids(*FORGOTTEN))

    @property
    def known(self) -> set[str]:
        """Ids that were put, in any state."""
        return {sample_id for sample_id, item in self.items.items() if item.state != "arriving"}


@dataclass(frozen=True, slots=True)
class Journalled:
    """Ids in the journals of services: of samples and of endings."""

    samples: frozenset[str] = frozenset()
    endings: frozenset[tuple[str, str]] = frozenset()  # kind and id

    def __or__(self, other: "Journalled") -> "Journalled":
        return Journalled(self.samples | other.samples, self.endings | other.endings)

    def ended(self, kind: str) -> frozenset[str]:
        return frozenset(sample_id for one, sample_id in self.endings if one == kind)


def journalled(state: Path, *, is_alive: bool) -> Journalled:
    """The content of a service's journal. A dead service's is read from a copy, so that SQLite does not repair it."""
    path = state / "journal" / "journal.sqlite3"
    if is_alive:
        return _journalled(path)
    with tempfile.TemporaryDirectory() as folder:
        for file in (path, path.with_name(f"{path.name}-wal")):
            if file.exists():
                shutil.copy(file, folder)
        return _journalled(Path(folder) / path.name)


def oldest(state: Path) -> str | None:
    """The oldest id in the journal of a living service."""
    with closing(sqlite3.connect(state / "journal" / "journal.sqlite3", timeout=10)) as connection:
        row = connection.execute("SELECT id FROM samples ORDER BY row LIMIT 1").fetchone()
    return None if row is None else str(row[0])


def _journalled(path: Path) -> Journalled:
    if not path.exists():
        return Journalled()
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"samples", "endings"} <= tables:
            return Journalled()  # killed before they were made
        endings = [orjson.loads(row[0]) for row in connection.execute("SELECT ending FROM endings")]
        return Journalled(
            frozenset(row[0] for row in connection.execute("SELECT id FROM samples")),
            frozenset((ending["kind"], ending["sample_id"]) for ending in endings),
        )


def look(client: redis.Redis) -> Look:
    with client.pipeline(transaction=True) as ask:
        ask.hgetall(_key("items"))
        for name in (*LANES, "ages", "leased", "dead", "finished", "tombstones"):
            ask.zrange(_key(name), 0, -1)
        for name in ("leases", "samples", "receipts"):
            ask.hkeys(_key(name))
        ask.xrange(_key("labels"))
        ask.hgetall(_key("counts"))
        reply: list[Any] = ask.execute()
    items = {sample_id: _item(text) for sample_id, text in reply[0].items()}
    lanes = dict(zip(LANES, reply[1:4], strict=True))
    ages, leased, dead, finished, tombstones, leases, samples, receipts = map(set, reply[4:12])
    events = [fields["sample_id"] for _, fields in reply[12]]
    return Look(items, lanes, ages, leased, leases, dead, finished, tombstones, samples, receipts, events, reply[13])


def _item(text: str) -> Item:
    state, lane, value, size = text.split(" ")[:4]
    return Item(state, lane, float(value), int(size))


def images(client: redis.Redis) -> dict[str, str]:
    """Id -> name of the image in the blob store, of all samples that must have one."""
    found: Any = client.hgetall(_key("samples"))
    return {sample_id: orjson.loads(text)["blob"] for sample_id, text in found.items()}


def _key(name: str) -> str:
    return f"losscast:{{{MODEL}}}:queue:{name}"


def missing(told: Told, journals: Journalled, now: Look, posted: frozenset[str]) -> list[str]:
    """Samples that were accepted before the look and are nowhere; samples that are there and were not posted before it
    ended.

    Of what was forgotten the ids are gone and the number is known.
    """
    everywhere = now.known | journals.samples
    lost = told.accepted - everywhere
    gone = lost if len(lost) > now.forgotten else frozenset[str]()
    return _problems({"accepted and lost": gone, "never posted": everywhere - posted})


def unlabelled(told: Told, journals: Journalled, now: Look) -> list[str]:
    """Labels and rejections that were confirmed, and are neither in the queue nor on their way from a journal.

    When the server loses one, another annotator may get the sample before it is restored: then the other's
    stands, and both were confirmed.
    """
    labels = set(told.labelled) - told.erasing - told.rejected
    rejections = told.rejected - told.erasing - set(told.labelled)
    return _problems(
        {
            "label confirmed and lost": labels - now.ids("labelled") - journals.ended("label"),
            "rejection confirmed and lost": rejections - now.ids("rejected") - journals.ended("rejection"),
        }
    )


def contradictions(now: Look) -> list[str]:
    """Contradictions between keys and counters of one moment."""
    pending = [sample_id for ids in now.lanes.values() for sample_id in ids]
    archived = now.ids("labelled") - now.finished  # past retention, so its JSON is in an archive alone
    alike: dict[str, tuple[set[str], set[str]]] = {
        "pending items and lanes": (now.ids("pending"), set(pending)),
        "pending items and ages": (now.ids("pending"), now.ages),
        "leased items and expiries": (now.ids("leased"), now.leased),
        "leased items and leases": (now.ids("leased"), now.leases),
        "dead items and dead letters": (now.ids("dead"), now.dead),
        "finished items and times": (now.ids("labelled", "rejected", "erased") - archived, now.finished),
        "evicted items and tombstones": (now.ids("evicted"), now.tombstones),
        "items with JSON": (now.ids(*LIVE, "labelled", "rejected") - archived, now.samples),
        "receipts": (now.ids("labelled", "rejected"), now.receipts),
    }
    found = _problems({f"{name} differ": one ^ other for name, (one, other) in alike.items()})
    found += _problems({"pending twice": {one for one, n in Counter(pending).items() if n > 1}})
    found += _problems({"more than one label event": {one for one, n in Counter(now.events).items() if n > 1}})
    found += _problems({"label event of an unlabelled sample": set(now.events) - now.ids("labelled")})
    found += _problems({"label event of a sample whose label is archived": set(now.events) & archived})
    return found + _miscounted(now)


def _miscounted(now: Look) -> list[str]:
    counts = {name: int(now.counts.get(name, 0)) for name in (*FINAL, "accepted", "bytes")}
    expected = {name: len(now.ids(name)) for name in FINAL}
    expected["accepted"] = len(now.ids(*LIVE)) + sum(counts[name] for name in FINAL)
    expected["bytes"] = sum(item.bytes for item in now.items.values() if item.state in {"pending", "leased"})
    wrong = [name for name, n in expected.items() if counts[name] != n and not now.agrees(name, counts[name])]
    return [f"counter {name} is {counts[name]}, keys say {expected[name]}" for name in wrong]


def _problems(found: Mapping[str, set[str] | frozenset[str]]) -> list[str]:
    return [f"{name}: {len(ids)}, e.g. {sorted(ids)[:SHOWN]}" for name, ids in found.items() if ids]
