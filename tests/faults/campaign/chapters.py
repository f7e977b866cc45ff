"""The faults, one chapter for each kind: real processes under load, at random moments from a seeded generator."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign.load import Load, Manners
from tests.faults.campaign.servers import Replica, process_id
from tests.faults.campaign.stage import Stage

POSTERS = 3
ANNOTATORS = 2
STALL_S = 2.0
DISK_BYTES = 13 * 2**20  # of which the journal holds 8 MiB in reserve
BUSY = Manners(pause_s=0.0)
HASTY = Manners(n=5, lease_s=1.0, abandon=0.3, skip=0, reject=0, erase=0, pause_s=0)


class Skipped(Exception):  # noqa: N818 - not an error
    """The fault cannot be caused on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many faults one chapter has, and how many samples at least."""

    samples: int
    times: int


def service_killed(stage: Stage, size: Size) -> None:
    """Kill -9 of the service, some of them while it starts."""
    stage.add_redis()
    replica = stage.add_replica()
    load = _started(stage, size)
    for _ in range(size.times):
        _sleep_a_while(stage)
        replica.stop(signal.SIGKILL)
        stage.fault("kill -9 of the service")
        stage.check()
        if stage.rng.random() < 0.1:
            replica.launch()
            time.sleep(stage.rng.uniform(0, 2))
            replica.stop(signal.SIGKILL)
            stage.fault("kill -9 of the service while it starts")
            stage.check()
        replica.start()
    load.end()


def service_and_private_server_killed(stage: Stage, size: Size) -> None:
    """The Valkey that the service starts for itself is killed with it, after it, or left behind."""
    replica = stage.add_replica()
    load = _started(stage, size)
    for _ in range(size.times):
        _sleep_a_while(stage)
        server = process_id(stage.client)
        fate = stage.rng.choice(("left behind", "killed as well", "killed alone"))
        if fate != "killed alone":
            replica.stop(signal.SIGKILL)
            stage.fault("kill -9 of the service")
        if fate != "left behind":
            os.kill(server, signal.SIGKILL)
            stage.fault("kill -9 of its private Valkey", forgets=True)
        if fate != "killed alone":
            replica.start()
        stage.until_labels_grow(5)
        stage.check()
    load.end()


def redis_killed_everysec(stage: Stage, size: Size) -> None:
    """Kill -9 of Redis during puts and labels, with appendfsync everysec."""
    _kill_redis(stage, size, "everysec")


def redis_killed_always(stage: Stage, size: Size) -> None:
    """The same with appendfsync always."""
    _kill_redis(stage, size, "always")


def _kill_redis(stage: Stage, size: Size, appendfsync: str) -> None:
    redis = stage.add_redis(appendfsync)
    stage.add_replica()
    load = _started(stage, size, posters=4, pace_s=0.01, annotators=3, manners=BUSY)
    for _ in range(size.times):
        stage.until_accepted(20)
        stage.until_labels_grow(20)
        time.sleep(stage.rng.uniform(0, 0.5))
        redis.send(signal.SIGKILL)
        stage.fault(f"kill -9 of Redis, appendfsync {appendfsync}", forgets=appendfsync == "everysec")
        time.sleep(stage.rng.uniform(0, 0.5))
        redis.start()
        stage.check()
    load.end()


def redis_stalled(stage: Stage, size: Size) -> None:
    """SIGSTOP of Redis for 2 s: longer than the service waits."""
    redis = stage.add_redis()
    stage.add_replica(LOSSCAST_REDIS_TIMEOUT_S="0.5")
    load = _started(stage, size, manners=BUSY)
    for _ in range(size.times):
        stage.until_labels_grow(10)
        time.sleep(stage.rng.uniform(0, 0.5))
        redis.send(signal.SIGSTOP)
        stage.fault("SIGSTOP of Redis for 2 s")
        time.sleep(STALL_S)
        redis.send(signal.SIGCONT)
        stage.check()
    load.end()


def redis_down_at_start(stage: Stage, size: Size) -> None:
    """The service starts without its Redis, accepts, is killed, starts again, and only then Redis comes."""
    redis = stage.add_redis(start=False)
    replica = stage.add_replica()
    load = _started(stage, size)
    for _ in range(size.times):
        stage.fault("Redis down at the start of the service")
        stage.until_accepted(50)
        replica.stop(signal.SIGKILL)
        stage.fault("kill -9 of the service")
        replica.start()
        stage.until_accepted(20)
        redis.start()
        stage.check()
        stage.until_labels_grow(20)
        replica.stop()
        redis.send(signal.SIGKILL)
        stage.fault("kill -9 of Redis, appendfsync everysec", forgets=True)
        replica.start()
    redis.start()
    load.end()


def redis_out_of_memory(stage: Stage, size: Size) -> None:
    """Maxmemory reached, noeviction: samples stay in the journal, leasing and labelling go on."""
    redis = stage.add_redis()
    replica = stage.add_replica()
    load = _started(stage, size, pace_s=0.01, annotators=1, manners=Manners(n=2, pause_s=0.1))
    for _ in range(size.times):
        stage.until_pending(200)  # for annotators to label while nothing comes in
        used = int(redis.client.info("memory")["used_memory"])
        redis.client.config_set("maxmemory", used + 100_000)
        stage.fault("maxmemory reached")
        stage.until_refused()
        stage.until_labels_grow(10)
        stage.check()
        replica.stop(signal.SIGKILL)
        stage.fault("kill -9 of the service at maxmemory")
        stage.check()
        replica.start()
        stage.until_labels_grow(10)
        redis.client.config_set("maxmemory", 0)
        stage.check()
    load.end()


def journal_disk_full(stage: Stage, size: Size) -> None:
    """The journal's disk, a small tmpfs, fills up while Redis is away. Once Redis is back, the journal works again."""
    disk = stage.folder / "disk"
    disk.mkdir()
    mounted = _mount(disk, f"size={DISK_BYTES}")
    if mounted.returncode:
        raise Skipped(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        _fill_disk(stage, size, disk)
    finally:
        stage.close()
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S607 - wherever the system has it


def _fill_disk(stage: Stage, size: Size, disk: Path) -> None:
    redis = stage.add_redis()
    replica = stage.add_replica(LOSSCAST_STATE=str(disk / "state"))
    load = _started(stage, size, pace_s=0.001)
    for _ in range(size.times):
        redis.send(signal.SIGKILL)
        stage.fault("kill -9 of Redis, appendfsync everysec", forgets=True)
        stage.until_noted("unavailable", 50)
        stage.fault("journal disk full")
        replica.stop(signal.SIGKILL)
        stage.fault("kill -9 of the service with its disk full")
        replica.start()
        stage.until_noted("unavailable", 10)
        redis.start()
        stage.check()
        stage.until_rows_go()
        stage.until_accepted(50)
        stage.check()
    load.end()
    stage.finish()  # while the disk is there


def _mount(disk: Path, options: str) -> subprocess.CompletedProcess[str]:
    command = ["mount", "-t", "tmpfs", "-o", options, "losscast-campaign", str(disk)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def client_killed(stage: Stage, size: Size) -> None:
    """Processes with leases are killed before they have labelled all; others get their samples."""
    stage.add_redis()
    replica = stage.add_replica()
    load = _started(stage, size, manners=Manners(lease_s=2.0))
    for number in range(size.times):
        command = [sys.executable, "-m", "tests.faults.campaign.annotator", replica.url, f"victim-{number}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
            assert victim.stdout is not None
            victim.stdout.readline()  # it has leased
            time.sleep(stage.rng.uniform(0, 0.5))
            victim.kill()
        stage.fault("kill -9 of a client between lease and label")
        stage.check()
    load.end_posting()
    stage.until_all_labelled()
    load.end()


def leases_abandoned(stage: Stage, size: Size) -> None:
    """8 workers keep 30 % of their leases for a second without labelling, until all samples are labelled or dead."""
    stage.add_redis()
    stage.add_replica()
    load = _started(stage, size, annotators=8, manners=HASTY)
    load.end_posting()
    stage.until_all_labelled()
    stage.check()
    load.end()
    stage.fault("lease abandoned", stage.ledger.counts["abandon"])


def two_replicas(stage: Stage, size: Size) -> None:
    """Two services on one queue, the same images sent to both, either killed at any time."""
    stage.add_redis()
    replicas = [stage.add_replica(), stage.add_replica()]
    load = _started(stage, size, posters=4)
    for _ in range(size.times):
        _sleep_a_while(stage)
        killed: list[Replica] = stage.rng.choice((replicas[:1], replicas[1:], replicas))
        for replica in killed:
            replica.stop(signal.SIGKILL)
            stage.fault("kill -9 of one of two services")
        stage.check()
        for replica in killed:
            replica.start()
        stage.check()
    load.end()


Chapter = Callable[[Stage, Size], None]
CHAPTERS: Mapping[Chapter, Size] = {  # of the long form; samples as a share of all, in percent
    service_killed: Size(45, 200),
    service_and_private_server_killed: Size(5, 15),
    redis_killed_everysec: Size(9, 25),
    redis_killed_always: Size(9, 25),
    redis_stalled: Size(4, 6),
    redis_down_at_start: Size(4, 3),
    redis_out_of_memory: Size(6, 4),
    journal_disk_full: Size(5, 3),
    client_killed: Size(3, 10),
    leases_abandoned: Size(5, 1),
    two_replicas: Size(5, 15),
}


def _started(  # noqa: PLR0913 - what distinguishes the chapters
    stage: Stage,
    size: Size,
    *,
    posters: int = POSTERS,
    pace_s: float = 0.03,
    annotators: int = ANNOTATORS,
    manners: Manners | None = None,
) -> Load:
    load = stage.load()
    load.start(posters, pace_s, size.samples, annotators, manners or Manners())
    return load


def _sleep_a_while(stage: Stage) -> None:
    """Before, within and after the 2 s in which the drain settles what it has put."""
    longest_s = 0.4 if stage.rng.random() < 0.7 else 4.0
    time.sleep(stage.rng.uniform(0, longest_s))
