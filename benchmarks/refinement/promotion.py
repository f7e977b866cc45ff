"""Promotion and rollback under traffic: `python -m benchmarks.refinement.promotion`, from the root of the repository.

Two real services share a bundle store and a Redis server; clients post the tiny model's images to both at a fixed rate.
Meanwhile a version is promoted and rolled back, several times, through one replica. It counts requests that failed,
measures how long a change takes until every replica confirms it, and checks that by the versions that answered. Writes
promotion.json and promotion.md. About two minutes.
"""

import io
import itertools
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import httpx
import numpy as np
import orjson
import typer
from PIL import Image

from models.contract.bundle import publish
from models.contract.index import ModelIndex, write_index
from service.client import LosscastClient
from service.schemas.versions import LiveReply
from tests.conftest import tiny_manifest, tiny_onnx
from tests.running import Redis, Service

RESULTS = Path(__file__).parent / "results"
COMMAND = "python -m benchmarks.refinement.promotion"
CLIENTS = 8  # for each replica
REPLICAS = ("a", "b")
WAIT_S = 60.0
CALM_S = 3.0  # of traffic before the first change and after each
PNG = {"content-type": "image/png"}
JSON = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


class Answer(NamedTuple):
    """The answer to one request. Times are of `time.perf_counter`."""

    sent_s: float
    took_s: float  # from when it was due, even if the client was late
    status: int  # 0: none
    version: str


def main(
    rate: Annotated[float, typer.Option(help="Requests per second, on both replicas together.")] = 200.0,
    rounds: Annotated[int, typer.Option(help="Promotions, each with its rollback.")] = 5,
    poll_s: Annotated[float, typer.Option(help="LOSSCAST_POLL_S of the replicas.")] = 5.0,
    out: Annotated[Path, typer.Option(help="Folder for promotion.json and promotion.md.")] = RESULTS,
) -> None:
    """Measures, prints the table and writes the results."""
    with tempfile.TemporaryDirectory(prefix="losscast-") as folder, _replicas(Path(folder), poll_s) as replicas:
        record = _measured(replicas, rate, rounds)
    record |= {"poll_s": poll_s, "command": COMMAND, "machine": _machine()}
    text = _markdown(record)
    out.mkdir(parents=True, exist_ok=True)
    (out / "promotion.json").write_bytes(orjson.dumps(record, option=JSON))
    (out / "promotion.md").write_text(text)
    print(text)


@contextmanager
def _replicas(folder: Path, poll_s: float) -> Iterator[list[Service]]:
    """Two services on one store, with the versions 1, live, and 2 of the tiny model, and on one Redis server."""
    store, content, redis = folder / "bundles", tiny_onnx(), Redis(folder)
    for version in ("1", "2"):
        manifest = tiny_manifest(content).model_copy(update={"version": version})
        publish(store, manifest, {"model.onnx": content, "model_card.md": b"# tiny\n"})
    write_index(store / "tiny", ModelIndex(live=1))
    with ExitStack() as stack:
        redis.start()
        if redis.process is not None:
            stack.callback(redis.process.wait)
            stack.callback(redis.process.terminate)
        services = []
        for name in REPLICAS:
            (folder / name).mkdir()
            settings = {"LOSSCAST_POLL_S": str(poll_s), "LOSSCAST_REDIS_URL": f"unix://{redis.socket}"}
            services.append(Service(store, folder / name, **settings))
            services[-1].start()
            stack.callback(services[-1].stop)
        yield services


def _measured(replicas: Sequence[Service], rate: float, rounds: int) -> dict[str, Any]:
    changes: dict[str, list[dict[str, float]]] = {"promotion": [], "rollback": []}
    started = time.perf_counter()
    with _traffic(replicas, rate) as answers, LosscastClient(str(replicas[0].http.base_url)) as client:
        time.sleep(CALM_S)
        for number in range(rounds):
            time.sleep(CALM_S + number / rounds)  # else each change would meet the same moment between two looks
            changes["promotion"].append(_change(client, answers, "2", "1"))
            time.sleep(CALM_S)
            changes["rollback"].append(_change(client, answers, "1", "2"))
    seconds = time.perf_counter() - started
    every = [one for mine in answers for one in mine]
    took_ms = np.array([one.took_s for one in every]) * 1000
    return {
        "asked_rate": rate,
        "rate": len(every) / seconds,
        "requests": len(every),
        "failed": sum(one.status != httpx.codes.OK for one in every),
        "latency_ms": {"median": float(np.median(took_ms)), "p99": float(np.quantile(took_ms, 0.99))},
        "changes": changes,
    }


def _change(client: LosscastClient, answers: Sequence[Sequence[Answer]], to: str, before: str) -> dict[str, float]:
    """One change: seconds until the reply said that every replica serves it, and until the last older answer."""
    started = time.perf_counter()
    reply = _ask(client, to, before)
    confirmed_s = time.perf_counter() - started
    if not reply.complete or len(reply.replicas) != len(REPLICAS):
        raise SystemExit(f"version {to} is not served by every replica: {reply}")
    time.sleep(CALM_S)  # for an older answer after the reply, which should not come
    old = [one.sent_s - started for mine in answers for one in list(mine) if one.version == before]
    return {"confirmed_s": confirmed_s, "last_old_answer_s": max(old)}


def _ask(client: LosscastClient, to: str, before: str) -> LiveReply:
    if to > before:
        return client.promote("tiny", to, expected_live=before, reason="a benchmark", wait_s=WAIT_S)
    return client.rollback("tiny", expected_live=before, to=to, reason="a benchmark", wait_s=WAIT_S)


@contextmanager
def _traffic(replicas: Sequence[Service], rate: float) -> Iterator[list[list[Answer]]]:
    """Clients that post at a fixed rate; the answers of each."""
    over = threading.Event()
    answers: list[list[Answer]] = [[] for _ in range(CLIENTS * len(replicas))]
    every_s = len(answers) / rate

    def post(service: Service, mine: list[Answer], first_s: float) -> None:
        image = _image()
        with httpx.Client(base_url=service.http.base_url, timeout=30) as http:
            for number in itertools.count():
                due = first_s + number * every_s
                if over.wait(max(0.0, due - time.perf_counter())):
                    return
                sent = time.perf_counter()
                try:
                    reply = http.post("/v1/predict", content=image, headers=PNG)
                    status, version = reply.status_code, str(reply.json().get("version", ""))
                except (httpx.HTTPError, ValueError):
                    status, version = 0, ""
                mine.append(Answer(sent, time.perf_counter() - due, status, version))

    now = time.perf_counter()
    threads = [
        threading.Thread(target=post, args=(replicas[number % len(replicas)], mine, now + number / rate))
        for number, mine in enumerate(answers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _image() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), 51, np.uint8)).save(file, "PNG")
    return file.getvalue()


def _machine() -> dict[str, Any]:
    load = [round(one, 2) for one in os.getloadavg()]
    return {"processors": os.cpu_count(), "load_average_after": load, "python": platform.python_version()}


def _markdown(record: Mapping[str, Any]) -> str:
    machine, latency = record["machine"], record["latency_ms"]
    load = machine["load_average_after"][0]
    rows = [
        "# Promotion and rollback under traffic",
        "",
        f"Made by `{record['command']}`: two replicas of the tiny model with LOSSCAST_POLL_S={record['poll_s']:g},",
        f"on one Redis server and one bundle store. {record['requests']:,} requests, {record['rate']:.0f} per second",
        f"(asked: {record['asked_rate']:.0f}); **{record['failed']} failed**. Latency: median",
        f"{latency['median']:.1f} ms, 99th percentile {latency['p99']:.1f} ms. {machine['processors']} processors,",
        f"which the clients and other work shared: load average {load} at the end. Confirmed: seconds until the reply",
        "said that every replica serves the version. Old: seconds until the last request that the version before it",
        "answered was sent. Both are the median (the most).",
        "",
        "| Change | n | Confirmed, s | Old, s |",
        "|---|---:|---:|---:|",
    ]
    for name, changes in record["changes"].items():
        cells = [_spread([one[key] for one in changes]) for key in ("confirmed_s", "last_old_answer_s")]
        rows.append(f"| {name} | {len(changes)} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({max(seconds):.2f})"


if __name__ == "__main__":
    typer.run(main)
