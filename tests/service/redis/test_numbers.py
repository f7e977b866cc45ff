"""Numbers of a script reach every kind of server in full, in a form that it accepts."""

from pathlib import Path
from typing import Any

import pytest

import service
from service.redis.server import RedisServer

SCRIPTS = sorted(Path(service.__file__).parent.rglob("*.lua"))
MICROSECONDS = 1_796_083_199_123_456  # Lua's `..` would write 1.7960831991235e+15
NUMBERS = [
    ("0", "0"),
    ("-tonumber('0')", "0"),
    ("-1", "-1"),
    ("1e15", "1000000000000000"),
    ("1e17", "100000000000000000"),
    ("2^53", "9007199254740992"),
    ("-2^53", "-9007199254740992"),
    ("-2^63", "-9223372036854775808"),
    ("1796083199 * 1000000 + 123456", str(MICROSECONDS)),
]


async def run(redis: RedisServer, lua: str, key: str) -> Any:
    return await redis.run(redis.register(lua), [key], [])


@pytest.mark.parametrize(("number", "expected"), NUMBERS)
async def test_a_whole_number_is_written_as_digits_and_can_be_added_to_a_counter(
    redis: RedisServer, model: str, number: str, expected: str
) -> None:
    key = f"test:{{{model}}}"
    assert await run(redis, f"return decimal({number})", key) == expected.encode()
    assert await run(redis, f"return decimal('{expected}')", key) == expected.encode()
    lua = f"call('HINCRBY', KEYS[1], 'sum', {number}) return call('HGET', KEYS[1], 'sum')"
    assert await run(redis, lua, key) == expected.encode()


@pytest.mark.parametrize("number", ["0.1", "-1/3", "1e-300", "1/0", "-1/0"])
async def test_a_number_that_is_not_whole_keeps_every_digit(redis: RedisServer, model: str, number: str) -> None:
    key = f"test:{{{model}}}"
    lua = f"call('ZADD', KEYS[1], {number}, 'x') return tonumber(call('ZSCORE', KEYS[1], 'x')) == {number} and 1 or 0"
    assert await run(redis, lua, key) == 1


def test_every_script_writes_its_numbers_through_one_helper() -> None:
    """`redis.call` would write "-0" or "1e+17" on Redis before 7.2; `tostring` would keep 14 digits."""
    assert len(SCRIPTS) > 30
    for script in SCRIPTS:
        text = script.read_text()
        calls = text.replace("never redis.call", "").count("redis.call") + text.count("redis.pcall")
        assert calls == (script.name == "numbers.lua"), script
        assert "tostring" not in text, script
