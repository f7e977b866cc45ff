"""The queue on a Redis Cluster: one node behind a socket, and three nodes that share the models."""

import socketserver
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

from service.errors import Unavailable
from service.labelling.queue.blobs import BlobStore
from service.labelling.samples.sample import Sample, sample_id
from service.redis.private_valkey import server_program
from tests.service.labelling.queue.own_queue import OwnQueue

MakeSample = Callable[..., Sample]
SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))


@dataclass
class Node:
    port: int
    bus: int
    socket: Path
    process: subprocess.Popen[bytes]

    def ask(self, *command: str | int) -> Any:
        with Redis(unix_socket_path=str(self.socket)) as client:
            return cast("Any", client).execute_command(*command)

    def wait(self, command: str, expected: bytes) -> None:
        """Waits until the reply contains the expected text, for at most 20 s."""
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s:
            with suppress(RedisConnectionError):
                if expected in self.ask(*command.split()):
                    return
            time.sleep(0.02)
        raise TimeoutError(command)


@contextmanager
def running_node(folder: Path) -> Iterator[Node]:
    folder.mkdir()
    port, bus, socket = _free_port(), _free_port(), folder / "node.sock"
    options = {"bind": "127.0.0.1", "dir": folder, "unixsocket": socket, "cluster-enabled": "yes", "port": port}
    options |= {"cluster-port": bus, "save": "", "appendonly": "yes", "cluster-node-timeout": 1000}
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    process = subprocess.Popen([server_program(), *arguments], stdout=subprocess.DEVNULL)
    node = Node(port, bus, socket, process)
    try:
        node.wait("CLUSTER INFO", b"cluster_state")
        yield node
    finally:
        process.kill()
        process.wait()


@contextmanager
def running_cluster(folder: Path) -> Iterator[list[Node]]:
    """Three nodes, each with a third of the slots."""
    folder.mkdir(exist_ok=True)
    with running_node(folder / "a") as first, running_node(folder / "b") as second, running_node(folder / "c") as third:
        nodes = [first, second, third]
        for epoch, (node, slots) in enumerate(zip(nodes, SLOTS, strict=True), 1):
            node.ask("CLUSTER", "ADDSLOTSRANGE", *slots)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for other in nodes[1:]:
            first.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)
        for node in nodes:
            node.wait("CLUSTER INFO", b"cluster_known_nodes:3")
            node.wait("CLUSTER INFO", b"cluster_state:ok")
        yield nodes


def _free_port() -> int:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as listener:
        return int(listener.server_address[1])


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A cluster of one node that has no slots yet."""
    with running_node(tmp_path / "node") as made:
        yield made


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest_asyncio.fixture
async def queue(nodes: list[Node]) -> AsyncIterator[OwnQueue]:
    made = OwnQueue.open(f"redis://127.0.0.1:{nodes[0].port}", BlobStore.open("memory:///"))
    yield made
    await made.close()


def slot(model: str) -> int:
    return key_slot(f"losscast:{{{model}}}:queue:items".encode())


def model_on(owner: int, name: str = "m") -> str:
    """A model whose keys are on that node."""
    first, last = SLOTS[owner]
    return next(f"{name}{i}" for i in range(1000) if first <= slot(f"{name}{i}") <= last)


def sample_of(model: str, make_sample: MakeSample, content: str = "a") -> Sample:
    return make_sample(content, model=model, id=sample_id(model, content.encode()))


async def test_models_on_all_nodes_of_a_cluster_are_served(
    nodes: list[Node], queue: OwnQueue, make_sample: MakeSample
) -> None:
    await queue.ping()
    models = [model_on(owner) for owner in range(3)]
    samples = [sample_of(model, make_sample) for model in models]
    announced = await queue.announce(samples)
    assert all(one.is_new for one in announced.values())
    assert not await queue.put(samples)
    for node, model in zip(nodes, models, strict=True):
        assert node.ask("HLEN", f"losscast:{{{model}}}:queue:items") == 1
    for model in models:
        (leased,) = await queue.lease(model, 1, "ann", "t", 60)
        assert await queue.get(model, leased.sample.id) == leased.sample
        assert await queue.label(model, leased.sample.id, "ann", "t", 1) == "accepted"
        assert (await queue.stats(model))["labelled"] == 1


async def test_a_slot_that_moved_to_another_node_is_followed(
    nodes: list[Node], queue: OwnQueue, make_sample: MakeSample
) -> None:
    here, moved = model_on(0), model_on(2, "moving")
    await queue.put([sample_of(here, make_sample)])
    new_owner = (nodes[1].ask("CLUSTER", "MYID")).decode()
    for node in nodes[::-1]:
        node.ask("CLUSTER", "SETSLOT", slot(moved), "NODE", new_owner)
    await queue.put([sample_of(moved, make_sample)])
    assert nodes[1].ask("HLEN", f"losscast:{{{moved}}}:queue:items") == 1


async def test_the_node_that_holds_the_keys_is_the_one_whose_disk_is_waited_for(
    nodes: list[Node], queue: OwnQueue, make_sample: MakeSample
) -> None:
    """Only this node was asked about its append-only file."""
    model = model_on(1)
    sample = sample_of(model, make_sample)
    await queue.put([sample])
    before = [asked_for_info(node) for node in nodes]
    assert await queue.settle([sample]) == {sample.id}
    after = [asked_for_info(node) for node in nodes]
    asked = [after[i] - before[i] - 1 for i in range(3)]  # one of them is this test's own
    assert asked[1] >= 2
    assert asked[0] == asked[2] == 0


def asked_for_info(node: Node) -> int:
    return int(node.ask("INFO", "commandstats").get("cmdstat_info", {"calls": 0})["calls"])


async def test_a_node_that_is_killed_makes_its_models_unavailable(tmp_path: Path, make_sample: MakeSample) -> None:
    model = model_on(2)
    with running_cluster(tmp_path / "cluster") as nodes:
        queue = OwnQueue.open(f"redis://127.0.0.1:{nodes[0].port}", BlobStore.open("memory:///"))
        await queue.put([sample_of(model, make_sample)])
        nodes[2].process.kill()
        nodes[2].process.wait()
        for _ in range(3):
            with pytest.raises(Unavailable):
                await queue.stats(model)
        await queue.close()


async def test_the_socket_of_one_node_of_several_is_refused_with_advice(
    nodes: list[Node], make_sample: MakeSample
) -> None:
    behind = OwnQueue.open(str(nodes[0].socket), BlobStore.open("memory:///"))
    await behind.put([sample_of(model_on(0), make_sample)])
    with pytest.raises(Unavailable, match="the redis:// address of a node"):
        await behind.put([sample_of(model_on(1), make_sample)])
    await behind.close()


async def test_a_cluster_without_all_its_slots_is_unavailable_until_it_has_them(
    node: Node, model: str, make_sample: MakeSample
) -> None:
    """Both through the socket of its one node, and as a cluster."""
    addresses = [str(node.socket), f"redis://127.0.0.1:{node.port}"]
    queues = [OwnQueue.open(address, BlobStore.open("memory:///")) for address in addresses]
    for queue in queues:
        with pytest.raises(Unavailable, match="is not ready"):
            await queue.put([make_sample("a")])
    node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    node.wait("CLUSTER INFO", b"cluster_state:ok")
    for value, queue in enumerate(queues):
        await queue.put([make_sample(f"{value}", value)])
        (leased,) = await queue.lease(model, 1, "ann", f"{value}", 60)
        assert leased.sample.value == value
        assert await queue.label(model, leased.sample.id, "ann", "t", 1) == "accepted"
        await queue.close()
