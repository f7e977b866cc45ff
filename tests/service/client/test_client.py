"""Both clients against real services over HTTP."""

import asyncio
import inspect
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Semaphore, Thread, get_ident
from typing import Any

import pytest
import stamina

from service.client import AsyncLosscastClient, ClientError, LosscastClient, requests
from service.schemas.predictions import ErrorReply, PredictReply

Grey = Callable[..., bytes]
ServerOf = Callable[[list[tuple[int, dict[str, str]]]], str]
VALUES = [[1, 2], [3, 4]]
SHORT_S = 0.6
KEPT_S = 1.5  # long enough that a busy machine does not lose it between two extensions


class SilentServer(ThreadingHTTPServer):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked, self.released, self.answered = Semaphore(0), Event(), 0


class SilentHandler(BaseHTTPRequestHandler):
    server: SilentServer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/extend"):
            self.server.asked.release()
            self.server.released.wait(10)
            self.server.answered += 1
        body = b'{"samples": []}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
async def async_client(service_url: str) -> AsyncIterator[AsyncLosscastClient]:
    async with AsyncLosscastClient(service_url) as client:
        yield client


def test_samples_are_leased_looked_at_and_labelled(client: LosscastClient, queued: Callable[[int], list[str]]) -> None:
    ids = set(queued(2))
    with client.leased(5, annotator="ada") as samples:
        assert {sample.sample_id for sample in samples} == ids
        for sample in samples:
            assert client.image(sample).startswith(b"\x89PNG")
            assert client.label(sample, VALUES).repeated is False
            assert client.label(sample, VALUES).repeated is True
    labels = {line.sample_id: line for line in client.labels()}
    assert ids <= labels.keys()
    assert labels[ids.pop()].label.values == VALUES


async def test_the_same_with_asyncio(async_client: AsyncLosscastClient, queued: Callable[[int], list[str]]) -> None:
    ids = set(await asyncio.to_thread(queued, 2))
    async with async_client.leased(5, annotator="ada") as samples:
        images = await asyncio.gather(*(async_client.image(sample) for sample in samples))
        assert all(image.startswith(b"\x89PNG") for image in images)
        await asyncio.gather(*(async_client.label(sample, VALUES) for sample in samples))
    assert ids <= {line.sample_id async for line in async_client.labels()}


@pytest.mark.slow
def test_a_lease_lasts_as_long_as_its_block(client: LosscastClient, queued: Callable[[int], list[str]]) -> None:
    queued(1)
    before = client.stats()
    with client.leased(1, annotator="ada", lease_s=KEPT_S) as (sample,):
        while time.time() < sample.lease_expires_at + 2 * KEPT_S:
            assert client.lease(1, annotator="bob").samples == []
            time.sleep(0.05)
        now = client.stats()
        assert (now["leased"], now["expired"]) == (before["leased"] + 1, before["expired"])
        client.label(sample, VALUES)


def test_what_was_not_labelled_goes_back_when_the_block_is_left(
    client: LosscastClient, queued: Callable[[int], list[str]]
) -> None:
    ids = queued(2)
    with client.leased(2, annotator="ada", lease_s=SHORT_S) as (first, second):
        client.label(first, VALUES)
    for attempt in stamina.retry_context(on=ValueError, attempts=None, timeout=30, wait_max=0.1):
        with attempt:
            (again,) = client.lease(2, annotator="ada").samples
    assert again.sample_id == second.sample_id
    assert again.sample_id in ids


@pytest.mark.slow
async def test_an_asyncio_lease_lasts_as_long_as_its_block(
    async_client: AsyncLosscastClient, queued: Callable[[int], list[str]]
) -> None:
    await asyncio.to_thread(queued, 1)
    before = await async_client.stats()
    async with async_client.leased(1, annotator="ada", lease_s=KEPT_S) as (sample,):
        keepers = {task.get_name() for task in asyncio.all_tasks()}
        while time.time() < sample.lease_expires_at + 2 * KEPT_S:
            assert (await async_client.lease(1, annotator="bob")).samples == []
            await asyncio.sleep(0.05)
        now = await async_client.stats()
        assert (now["leased"], now["expired"]) == (before["leased"] + 1, before["expired"])
        await async_client.skip(sample)
    assert "losscast-lease" in keepers
    assert "losscast-lease" not in {task.get_name() for task in asyncio.all_tasks()}


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    """A server that leases nothing, and answers an extension only 10 s after it was asked."""
    server = SilentServer(("127.0.0.1", 0), SilentHandler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_leaving_a_block_does_not_wait_for_an_extension_without_answer(silent: SilentServer) -> None:
    with LosscastClient(silent.url) as client:
        with client.leased(1, annotator="ada", lease_s=SHORT_S):
            assert silent.asked.acquire(timeout=30)
            assert silent.asked.acquire(timeout=30), "the first try must not outlast the pause to the next"
        assert silent.answered == 0


async def test_an_asyncio_keeper_tries_again_without_an_answer_too(silent: SilentServer) -> None:
    async with AsyncLosscastClient(silent.url) as client, client.leased(1, annotator="ada", lease_s=SHORT_S):
        assert await asyncio.to_thread(silent.asked.acquire, timeout=30)
        assert await asyncio.to_thread(silent.asked.acquire, timeout=30)
        assert silent.answered == 0


def test_a_keeper_survives_errors_that_are_not_of_a_call(
    silent: SilentServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = LosscastClient(silent.url)
    with client.leased(1, annotator="ada", lease_s=SHORT_S):
        client.close()
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.1):
            with attempt:
                assert caplog.text.count("was not extended: Cannot send a request, as the client has been closed") > 1


def test_skipped_rejected_and_erased_samples_leave_the_annotator(
    client: LosscastClient, queued: Callable[[int], list[str]]
) -> None:
    queued(3)
    skipped, rejected, erased = client.lease(3, annotator="ada").samples
    client.skip(skipped)
    client.reject(rejected, "blurred")
    assert client.erase(erased.sample_id).erased is True
    assert client.lease(3, annotator="ada").samples == []
    assert [sample.sample_id for sample in client.lease(3, annotator="bob").samples] == [skipped.sample_id]
    assert client.sample(skipped.sample_id).lane == "predicted_loss"
    known = client.sample(rejected.sample_id)
    assert (known.state, known.reject_reason) == ("rejected", "blurred")
    with pytest.raises(ClientError) as refused:
        client.sample(erased.sample_id)
    assert refused.value.status == 404


def test_labels_come_in_pages_without_a_gap(client: LosscastClient, queued: Callable[[int], list[str]]) -> None:
    ids = queued(5)
    for sample in client.lease(5, annotator="ada").samples:
        client.label(sample, keypoints=[1, 2, 2, 0, 0, 0])
    seen, (page, cursor) = [], client.label_page(n=2)
    while page:
        seen += [line.sample_id for line in page]
        page, cursor = client.label_page(cursor, n=2)
    assert set(ids) <= set(seen)
    assert len(set(seen)) == len(seen)
    assert [line.sample_id for line in client.labels()] == seen


async def test_a_file_is_not_read_in_the_event_loop(
    async_client: AsyncLosscastClient, grey: Grey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(grey(0.2))
    read, readers = Path.read_bytes, set()

    def watched(path: Path) -> bytes:
        readers.add(get_ident())
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", watched)
    assert (await async_client.predict(photo)).verdict.lossy is False
    assert len(readers) == 1
    assert get_ident() not in readers


async def test_both_clients_ask_about_several_images_at_once(
    client: LosscastClient, async_client: AsyncLosscastClient, grey: Grey, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(grey(0.3))
    images: list[bytes | Path] = [grey(0.2), b"no image", photo]
    for reply in (client.predict_many(images), await async_client.predict_many(images)):
        first, second, third = reply.results
        assert isinstance(first, PredictReply)
        assert isinstance(second, ErrorReply)
        assert second.error.code == "unsupported_image"
        assert isinstance(third, PredictReply)
        assert third.predicted_loss > first.predicted_loss
    with pytest.raises(ClientError, match="at least one"):
        client.predict_many([])


async def test_both_clients_take_every_parameter_of_a_prediction(
    client: LosscastClient, async_client: AsyncLosscastClient, grey: Grey
) -> None:
    options = {"model": "tiny", "source": "cam", "operating_point": "budget"}
    assert ["image", *options] == list(inspect.signature(requests.predict).parameters)
    replies = [client.predict(grey(0.2), **options), await async_client.predict(grey(0.2), **options)]
    assert [reply.verdict.operating_point for reply in replies] == ["budget", "budget"]
    options["operating_point"] = "none"
    with pytest.raises(ClientError, match="there is no operating point 'none'"):
        client.predict(grey(0.2), **options)
    with pytest.raises(ClientError, match="there is no operating point 'none'"):
        await async_client.predict(grey(0.2), **options)


@pytest.fixture
def server_of() -> Iterator[ServerOf]:
    """Starts a server that gives these answers, one after the other, and then the counts of an empty queue."""
    servers = []

    def start(answers: list[tuple[int, dict[str, str]]]) -> str:
        class Scripted(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers = answers.pop(0) if answers else (200, {})
                body = b"<html>" if status != 200 else json.dumps({"pending": 0}).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        server = HTTPServer(("127.0.0.1", 0), Scripted)
        thread = Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


BUSY = [(503, {"retry-after": "0"}), (429, {}), (503, {"retry-after": "1"})]


def test_a_busy_service_is_asked_again_until_it_answers(server_of: ServerOf) -> None:
    with LosscastClient(server_of(list(BUSY))) as client:
        assert client.stats() == {"pending": 0}


async def test_a_busy_service_is_asked_again_with_asyncio_too(server_of: ServerOf) -> None:
    async with AsyncLosscastClient(server_of(list(BUSY))) as client:
        assert await client.stats() == {"pending": 0}


def test_without_patience_a_busy_service_is_asked_once(server_of: ServerOf) -> None:
    with LosscastClient(server_of([(503, {})]), retry_s=0) as client:
        with pytest.raises(ClientError) as refused:
            client.stats()
        assert refused.value.status == 503
        assert client.stats() == {"pending": 0}


def test_a_server_that_is_no_losscast_is_told_apart_at_once(server_of: ServerOf) -> None:
    with LosscastClient(server_of([(502, {})])) as client:
        with pytest.raises(ClientError, match=r"HTTP 502 .* a Losscast") as refused:
            client.stats()
        assert refused.value.status == 502


def test_no_server_has_no_status(grey: Grey) -> None:
    with (
        LosscastClient("http://127.0.0.1:1", retry_s=0.2) as client,
        pytest.raises(ClientError, match="no answer") as refused,
    ):
        client.predict(grey(0.5))
    assert refused.value.status is None
