"""A server that forgets when it is killed, as `appendfsync everysec` forgets the last seconds."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

from redis.asyncio import Redis

from service.redis.private_valkey import server_program


class ForgetfulServer:
    """A real server without an append-only file. After a kill it has the data of the last `snapshot`."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "valkey.sock"
        self._folder = folder

    async def start(self) -> None:
        program = server_program()
        assert program is not None
        options = (
            "--port",
            "0",
            "--unixsocket",
            self.socket,
            "--dir",
            self._folder,
            "--save",
            "",
            "--appendonly",
            "no",
        )
        quiet = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(program, *options, stdout=quiet, stderr=quiet)
        self.client = Redis(unix_socket_path=str(self.socket))
        async with asyncio.timeout(30):
            while True:
                with suppress(Exception):
                    await self.client.ping()
                    return
                await asyncio.sleep(0.02)

    async def snapshot(self) -> None:
        await self.client.save()

    async def crash(self) -> None:
        await self.kill()
        await self.start()

    async def kill(self) -> None:
        await self.client.aclose()
        os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self.socket.unlink(missing_ok=True)
