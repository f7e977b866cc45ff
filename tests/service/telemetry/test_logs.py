"""What becomes of a log record, whoever's it is."""

import base64
import io
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson
import pytest
import structlog

from service.predictor import Predictor
from service.telemetry import logs, request_ids

KEY = "quite-a-secret-key"
IMAGE = bytes(range(256)) * 4
OpenService = Callable[..., Any]


class Log:
    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.text.split("\n") if line]


@pytest.fixture
def log() -> Iterator[Log]:
    """What the root logger's records become in JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(logs.Bounded())
    handler.setFormatter(logs._formatter("json", [KEY, "abc", ""], colors=False))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield Log(stream)
    root.removeHandler(handler)
    root.setLevel(level)


def test_a_line_says_when_how_grave_where_from_and_what(log: Log) -> None:
    logging.getLogger("some.library").warning("%d of %s", 3, "them")
    (line,) = log.lines
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {"level": "WARNING", "logger": "some.library", "event": "3 of them"}


def test_a_line_in_a_request_carries_its_ids_and_those_of_the_sample(log: Log) -> None:
    request_ids.begin({"headers": [], "state": {"request_id": "mine", "trace_id": "t"}})
    logging.getLogger("a").info("x", extra={"sample_id": "s", "unheard_of": IMAGE})
    request_ids._SCOPE.set(None)
    (line,) = log.lines
    assert {name: line[name] for name in ("request_id", "trace_id", "sample_id")} == {
        "request_id": "mine", "trace_id": "t", "sample_id": "s",
    }  # fmt: skip
    assert "unheard_of" not in line


def test_a_message_of_many_lines_is_one_line_and_text_that_is_no_json_is_escaped(log: Log) -> None:
    logging.getLogger("a").error("first\nsecond \x00 \u2028 \"quoted\" '%s'", b"\xff")
    assert log.text.count("\n") == 1
    assert log.lines[0]["event"] == "first\nsecond \x00 \u2028 \"quoted\" 'b'\\xff''"


def test_a_traceback_is_there_without_the_local_variables(log: Log) -> None:
    def fail(held: bytes, given: str) -> None:
        raise ValueError(len(held) + len(given))

    try:
        fail(IMAGE, secret := os.urandom(8).hex())
    except ValueError:
        logging.getLogger("a").exception("it failed")
    (line,) = log.lines
    assert line["exception"].splitlines()[-1] == f"ValueError: {len(IMAGE) + 16}"
    assert secret not in log.text


@pytest.mark.parametrize(
    "text",
    [
        f"Bearer {KEY}",
        f"redis://user:{KEY}x@host/0",
        "http://name:password@host/path",
        f"body {IMAGE!r}",
        f"body {bytearray(IMAGE)!r} and more",
        base64.b64encode(IMAGE).decode(),
    ],
)
def test_keys_credentials_and_contents_are_taken_out_of_messages_and_tracebacks(log: Log, text: str) -> None:
    logging.getLogger("a").error("it failed: %s", text, exc_info=ValueError(text))
    assert log.lines[0]["event"].count(logs.HIDDEN) == 1
    for hidden in (KEY, "password", r"\\x01\\x02", base64.b64encode(IMAGE).decode()[:40]):
        assert hidden not in log.text


def test_a_secret_too_short_to_tell_from_a_word_hides_nothing(log: Log) -> None:
    logging.getLogger("a").error("abc")
    assert log.lines[0]["event"] == "abc"


def test_a_flood_of_one_message_is_cut_and_the_next_line_says_how_much_of_it_was_not_logged() -> None:
    bounded = logs.Bounded()

    def record(message: str) -> logging.LogRecord:
        return logging.LogRecord("a", logging.INFO, "f", 1, message, (), None)

    bounded._second = 10**9  # now is another second, whenever that is
    let = [bounded.filter(record("flood")) for _ in range(10 * logs.MOST_PER_S)]
    assert logs.MOST_PER_S <= sum(let) <= 3 * logs.MOST_PER_S  # seconds may pass meanwhile
    assert bounded.filter(record("something else"))
    bounded._second = 10**9
    after = record("flood")
    assert bounded.filter(after)
    told = after.__dict__["not_logged"]
    assert 0 < told <= len(let) - logs.MOST_PER_S


def test_for_people_a_line_has_the_same_without_json() -> None:
    form = logs._formatter("console", [KEY], colors=False)
    record = logging.LogRecord("some.library", logging.WARNING, "f", 1, "with %s", (KEY,), None)
    record.sample_id = "s"
    text = form.format(record)
    assert "WARNING" in text
    assert "with ***" in text
    assert "sample_id=s" in text
    assert "some.library" in text


def test_the_root_logger_gets_one_handler_for_warnings_and_structlog_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    try:
        root.handlers.clear()
        logs.configure(None, [KEY])
        assert len(root.handlers) == 1
        structlog.get_logger("theirs").warning("by structlog %s", KEY)
        logging.getLogger("py.warnings").warning("a warning")
    finally:
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
        root.handlers[:] = before
        root.setLevel(level)
    lines = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["by structlog ***", "a warning"]
    assert lines[0]["logger"] == "theirs"


async def test_a_bug_that_raises_with_image_and_key_is_logged_without_them(
    open_service: OpenService, log: Log, grey: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def buggy(_: Predictor, body: bytes, call: object) -> None:
        raise RuntimeError(body, KEY, f"{call}")

    monkeypatch.setattr(Predictor, "predict", buggy)
    http: httpx.AsyncClient = await open_service(api_keys=KEY)
    image = grey(0.9, size=(64, 64)) + os.urandom(512)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "image/png", "X-Request-Id": "mine"}
    reply = await http.post("/v1/predict", content=image, headers=headers)
    assert reply.status_code == 500
    (line,) = [line for line in log.lines if line["logger"] == "service.access"]
    assert (line["level"], line["request_id"], line["code"]) == ("ERROR", "mine", "internal")
    assert "RuntimeError" in line["exception"]
    assert KEY not in log.text
    assert "IHDR" not in log.text
