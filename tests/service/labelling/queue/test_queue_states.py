"""Random operations, with retries and expiries, on the real queue and on a model of it."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis import Redis

from models.contract.snapshot import Lane
from service.errors import Conflict, Erased, NotFound
from service.labelling.janitor import Janitor
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.label_queue import Leased
from service.labelling.queue.policy import QueuePolicy
from service.labelling.samples.sample import Sample, sample_id
from tests.service.labelling.queue.own_queue import OwnQueue
from tests.service.labelling.queue.queue_model import LANES, QueueModel

T = TypeVar("T")
POLICY = QueuePolicy(
    max_pending=8,
    max_bytes=1_500,
    max_pending_per_source=2,
    labels_per_hour=12,
    max_expiries=2,
    max_tombstones=3,
    audit_share=0.25,
    ood_share=0.25,
)
CONTENTS = 16
EXAMPLES = 60  # on each server
SORTED = (*LANES, "ages", "leased", "dead", "arriving", "finished", "tombstones")
FIELDS = ("leases", "samples")
COUNTED = ("sources", "holdings")
SHORT, LONG = 0.000001, 3600.0  # over before the next operation; never over

contents = st.integers(0, CONTENTS - 1)
annotators = st.sampled_from(["ann", "bob", "eve"])
tokens = st.sampled_from(["t1", "t2"])
lengths = st.sampled_from([SHORT, LONG])


class QueueMachine(RuleBasedStateMachine):
    def __init__(self, server: Path) -> None:
        super().__init__()
        self.model = "machine"  # ids, and with them the order of equal values, must be the same in every run
        self.runner = asyncio.Runner()
        self.blobs = BlobStore.open("memory:///")
        self.queue = OwnQueue.open(str(server), self.blobs, POLICY, timeout_s=10)
        self.janitor = Janitor(self.queue, self.blobs)
        self.redis = cast("Any", Redis(unix_socket_path=str(server), decode_responses=True))
        if keys := self.redis.keys(self.key("*")):
            self.redis.delete(*keys)
        self.expected = QueueModel(POLICY)
        self.puts = 0
        self.last: Sample | None = None
        self.flagged: list[Sample] = []  # all that ever arrived
        self.images: set[str] = set()
        self.named: dict[str, str] = {}  # id -> image of its last arrival

    def teardown(self) -> None:
        self.runner.run(self.queue.close())
        self.runner.close()
        self.redis.close()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        self.expected.at(int(time.time()) // 3600)  # the server has the same clock
        return self.runner.run(coroutine)

    def outcome(self, coroutine: Coroutine[Any, Any, str | None]) -> str:
        try:
            return self.do(coroutine) or "accepted"
        except Erased:
            return "erased"
        except NotFound:
            return "unknown"
        except Conflict:
            return "conflict"

    def id_of(self, content: int) -> str:
        return sample_id(self.model, bytes([content]))

    def now_s(self) -> float:
        seconds, microseconds = self.redis.time()
        return float(seconds + microseconds / 1e6)

    def announced(self, sample: Sample) -> Sample:
        """Writes the image as the drain would."""
        (announced,) = self.do(self.queue.announce([sample])).values()
        assert announced.is_new == self.expected.announce(sample)
        if announced.is_new:
            self.do(self.blobs.put(announced.image, b"image", "image/png"))
            self.images.add(announced.image)
            self.named[sample.id] = announced.image
        return replace(sample, blob=announced.image)

    @rule(
        content=contents,
        value=st.integers(0, 4),
        lane=st.sampled_from(LANES),
        source=st.sampled_from([None, "a", "a", "a b"]),
        is_put=st.sampled_from([True, True, True, False]),
    )
    def arrive(self, content: int, value: int, lane: Lane, source: str | None, *, is_put: bool) -> None:
        self.puts += 1
        sample = Sample(
            id=self.id_of(content),
            model=self.model,
            version="1",
            content_type="image/png",
            reasons=(),
            value=float(value),
            predicted_loss=0.5,
            score=0.5,
            ood_score=0.1,
            prediction=None,
            flagged_at=float(self.puts),
            width=64,
            height=64,
            lane=lane,
            source=source,
            bytes=50 + 250 * (content % 2),
        )
        self.flagged.append(sample)
        self.last = self.announced(sample)
        if is_put:
            self.put_again()

    @rule(back=st.integers(1, 12), is_put=st.booleans())
    def repeat(self, back: int, *, is_put: bool) -> None:
        """Another replica's drain, or this one after a crash, repeats an arrival from some steps ago."""
        if back <= len(self.flagged):
            self.last = self.announced(self.flagged[-back])
            if is_put:
                self.put_again()

    @rule(data=st.data())
    def draw_for_audit(self, data: st.DataObject) -> None:
        """The image of a known sample comes again and is drawn for audit."""
        there = self.expected.is_in("pending", "leased", "dead", "labelled", "rejected")
        if known := [content for content in range(CONTENTS) if self.id_of(content) in there]:
            self.arrive(data.draw(st.sampled_from(known)), 1, "audit", None, is_put=True)

    @rule()
    def put_again(self) -> None:
        if self.last is None:
            return
        again = self.do(self.queue.put([self.last]))
        assert bool(again) == self.expected.put(self.last)

    @rule(n=st.integers(1, 6), annotator=annotators, token=tokens, lease_s=lengths)
    def lease(self, n: int, annotator: str, token: str, lease_s: float) -> None:
        now_s = self.now_s()
        leased = self.do(self.queue.lease(self.model, n, annotator, token, lease_s))
        self.expected.sweep(now_s)
        holder = (annotator, token)
        if holder in self.expected.holders:
            assert ids(leased) == self.expected.held(holder)
            return
        chosen = self.expected.choose(n, annotator)
        assert ids(leased) == chosen
        if leased:
            self.expected.grant(chosen, holder, leased[0].lease_expires_at)

    @rule(annotator=annotators, token=tokens, lease_s=lengths)
    def extend(self, annotator: str, token: str, lease_s: float) -> None:
        extended = self.do(self.queue.extend(self.model, annotator, token, lease_s))
        assert ids(extended) == self.expected.held((annotator, token))
        if extended:
            self.expected.renew(ids(extended), (annotator, token), extended[0].lease_expires_at)

    @rule(content=contents, annotator=annotators, token=tokens, label=st.integers(0, 1))
    def label(self, content: int, annotator: str, token: str, label: int) -> None:
        arguments = (self.id_of(content), annotator, token, label)
        assert self.outcome(self.queue.label(self.model, *arguments)) == self.expected.label(*arguments)

    @rule(content=contents, annotator=st.sampled_from([*"abcdefghijklmnopqrst", "ann", "bob"]), token=tokens)
    def skip(self, content: int, annotator: str, token: str) -> None:
        arguments = (self.id_of(content), annotator, token)
        assert self.outcome(self.queue.skip(self.model, *arguments)) == self.expected.skip(*arguments)

    @rule(data=st.data(), is_label=st.booleans())
    def finish_what_is_leased(self, data: st.DataObject, *, is_label: bool) -> None:
        """Few ids drawn at random are leased; this rule picks one that is."""
        held = self.expected.is_in("leased")
        if held:
            chosen = data.draw(st.sampled_from(held))
            holder = self.expected.items[chosen].holder
            assert holder is not None
            if is_label:
                assert self.do(self.queue.label(self.model, chosen, *holder, 7)) == "accepted"
                self.expected.label(chosen, *holder, 7)
            else:
                self.do(self.queue.skip(self.model, chosen, *holder))
                self.expected.skip(chosen, *holder)

    @rule(content=contents, annotator=annotators, token=tokens, reason=st.sampled_from(["blurred", "empty"]))
    def reject(self, content: int, annotator: str, token: str, reason: str) -> None:
        arguments = (self.id_of(content), annotator, token, reason)
        expected = self.expected.reject(*arguments)
        assert self.outcome(self.queue.reject(self.model, *arguments)) == expected

    @rule(n=st.integers(1, 4), turns=st.integers(1, 3))
    def abandon(self, n: int, turns: int) -> None:
        """An annotator leases and goes away, several times."""
        for _ in range(turns):
            self.lease(n, "gone", "t1", SHORT)
            self.sweep()

    @rule()
    def sweep(self) -> None:
        now_s = self.now_s()
        assert self.do(self.queue.sweep(self.model)) == self.expected.sweep(now_s)

    @rule(some=st.none() | st.lists(contents, max_size=4, unique=True))
    def requeue(self, some: list[int] | None) -> None:
        named = None if some is None else [self.id_of(content) for content in some]
        dead = self.redis.zrange(self.key("dead"), 0, -1)
        requeued = self.do(self.queue.requeue(self.model, named))
        assert requeued == self.expected.requeue(dead if named is None else named)

    @rule(content=contents)
    def erase(self, content: int) -> None:
        gone = self.id_of(content)
        assert self.do(self.queue.erase(self.model, gone)) == self.expected.erase(gone)

    @rule()
    def tidy(self) -> None:
        """Afterwards exactly the samples that need an image have one."""
        now_s = self.now_s()
        self.do(self.janitor.tidy(self.model))
        self.expected.sweep(now_s)
        self.images = {name for name in self.images if self.is_kept(name)}
        assert set(self.do(self.stored())) == self.images

    def is_kept(self, image: str) -> bool:
        of = image.rpartition("/")[2].partition("-")[0]
        item = self.expected.items.get(of)
        is_gone = item is None or (item.state in {"evicted", "erased"} and not item.may_be_written)
        return (of in self.expected.arriving or not is_gone) and self.named[of] == image

    async def stored(self) -> list[str]:
        return [name async for chunk in self.blobs.names(f"images/{self.model}/") for name in chunk]

    def key(self, name: str) -> str:
        return f"losscast:{{{self.model}}}:queue:{name}"

    @invariant()
    def counts_agree(self) -> None:
        stats = self.do(self.queue.stats(self.model))
        del stats["oldest_age_s"]
        assert stats == self.expected.stats()
        places = ("pending", "leased", "labelled", "rejected", "dead", "evicted", "erased")
        assert stats["accepted"] == sum(stats[place] for place in places)

    @invariant()
    def keys_agree(self) -> None:
        """Each sample is in the keys of its state and in no other key."""
        found = self.look()
        items = {sample_id: text.split(" ") for sample_id, text in found["items"].items()}
        assert {sample_id: (parts[0], parts[1], parts[4]) for sample_id, parts in items.items()} == {
            **{sample_id: item.known() for sample_id, item in self.expected.items.items()},
            **dict.fromkeys(self.expected.arriving, ("arriving", "-", "0")),
        }
        for lane in LANES:
            ids = found[lane] if lane == "audit" else found[lane][::-1]
            assert ids == self.expected.lane(lane)
        pending = self.expected.is_in("pending")
        sourced = [one for one in map(self.sample, pending) if one.source and one.lane != "audit"]
        assert set(found["ages"]) == set(pending)
        assert found["sources"] == len(sourced)
        assert set(found["leased"]) == set(found["leases"]) == set(self.expected.is_in("leased"))
        assert found["holdings"] == len(self.expected.is_in("leased"))
        assert set(found["dead"]) == set(self.expected.is_in("dead"))
        assert set(found["arriving"]) == set(self.expected.arriving)
        assert set(found["finished"]) == set(self.expected.is_in("labelled", "rejected", "erased"))
        assert set(found["tombstones"]) == set(self.expected.is_in("evicted"))
        have_json = self.expected.is_in("pending", "leased", "dead", "labelled", "rejected")
        assert set(found["samples"]) == set(have_json)

    @invariant()
    def labels_agree(self) -> None:
        page = self.do(self.queue.labels(self.model, "", 1000))
        assert [(one.sample.id, one.annotator, one.label) for one in page.labels] == self.expected.labels

    def look(self) -> dict[str, Any]:
        """The content of every key, in one round trip."""
        pipeline = self.redis.pipeline()
        pipeline.hgetall(self.key("items"))
        for name in SORTED:
            pipeline.zrange(self.key(name), 0, -1)
        for name in FIELDS:
            pipeline.hkeys(self.key(name))
        for name in COUNTED:
            pipeline.zcard(self.key(name))
        return dict(zip(("items", *SORTED, *FIELDS, *COUNTED), pipeline.execute(), strict=True))

    def sample(self, sample_id: str) -> Sample:
        return self.expected.items[sample_id].sample


def ids(leased: list[Leased]) -> list[str]:
    return [one.sample.id for one in leased]


@pytest.mark.slow
@pytest.mark.usefixtures("no_grace")
def test_the_queue_and_its_model_agree_after_every_operation(server: Path) -> None:
    run_state_machine_as_test(
        partial(QueueMachine, server),  # type: ignore[arg-type]  # any callable that makes a machine will do
        settings=settings(max_examples=EXAMPLES, stateful_step_count=60, suppress_health_check=list(HealthCheck)),
    )
