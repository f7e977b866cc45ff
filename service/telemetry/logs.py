"""The log: one line on stderr for each record of the process's loggers, as JSON or for people.

record -> limit of lines per second -> its fields, the request's ids -> secrets and file contents removed -> rendered.
Modules use the loggers of the standard library; only this module uses structlog.
"""

import logging
import re
import sys
import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from service.telemetry.request_ids import ids

Format = Literal["json", "console"]

# Fields that a line may have beside its message. Other extras stay out of the log: libraries may put anything there.
FIELDS = (
    "sample_id", "model", "version", "lane", "reasons",
    "status", "code", "method", "route", "ms", "not_logged",
    "stamina.callable", "stamina.retry_num", "stamina.wait_for", "stamina.caused_by",
)  # fmt: skip
MOST_PER_S: Final = 100  # lines of one kind, so that a flood of errors does not flood the log
MAX_KINDS: Final = 1_000
MIN_SECRET: Final = 4  # characters; a shorter secret would match parts of many words

HIDDEN = "***"
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_CONTENT = re.compile(
    r"""\bb(['"])(?:\\.|(?!\1).){32,}\1"""  # bytes, as exceptions print them
    r"|[A-Za-z0-9+/]{256,}={0,2}",  # base64
    re.DOTALL,
)


def configure(form: Format | None, secrets: Iterable[str]) -> None:
    """Gives the root logger its only handler. form: None means console on a terminal and JSON elsewhere.

    secrets: texts that no line may contain, from any logger.
    """
    is_terminal = sys.stderr.isatty()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Bounded())
    handler.setFormatter(_formatter(form or ("console" if is_terminal else "json"), secrets, colors=is_terminal))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


class Bounded(logging.Filter):
    """Passes MOST_PER_S records per second of each logger and message. The next one says how many were dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._let: dict[tuple[str, str], int] = {}
        self._held: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, str(record.msg))
        if (second := int(time.monotonic())) != self._second:
            self._second = second
            self._let.clear()
        if len(self._held) > MAX_KINDS:
            self._held.clear()
        if self._let.get(kind, 0) >= MOST_PER_S:
            self._held[kind] = self._held.get(kind, 0) + 1
            return False
        self._let[kind] = self._let.get(kind, 0) + 1
        if held := self._held.pop(kind, 0):
            record.not_logged = held
        return True


def _formatter(form: Format, secrets: Iterable[str], *, colors: bool) -> logging.Formatter:
    render: list[Any]
    if form == "json":
        render = [structlog.processors.JSONRenderer(serializer=_json)]
    else:
        styles = structlog.dev.ConsoleRenderer.get_default_level_styles(colors=colors)
        upper = {name.upper(): style for name, style in styles.items()}
        render = [structlog.dev.ConsoleRenderer(colors=colors, level_styles=upper, sort_keys=False)]
    return structlog.stdlib.ProcessorFormatter(
        # Tracebacks have no local variables, because those may hold images and keys.
        processors=[_fields, structlog.processors.format_exc_info, _Hiding(secrets), *render],
        keep_exc_info=False,
    )


def _fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    fields: dict[str, Any] = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "logger": record.name,
        "event": event["event"],
        **ids(),
    }
    fields |= {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
    return fields | {name: event[name] for name in ("exc_info", "stack_info") if name in event}


class _Hiding:
    """Hides secrets, credentials in URLs, and anything that looks like the content of a file."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known: Collection[str] = {secret for secret in secrets if len(secret) >= MIN_SECRET}
        longest_first = sorted(known, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {name: self._hide(value) if isinstance(value, str) else value for name, value in event.items()}

    def _hide(self, text: str) -> str:
        for pattern in (self._secrets, _CREDENTIALS, _CONTENT):
            text = pattern.sub(HIDDEN, text)
        return text


def _json(event: EventDict, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()
