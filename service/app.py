"""Puts the service together. All resources are opened and closed here, and nowhere else.

Each resource is opened before those that need it, and they are closed in reverse. Tracing is open from first to last.
The journal comes next: its lock decides which process owns the state folder. Then the models are loaded. The drain is
closed before the queue that it fills.
"""

import asyncio
import importlib.metadata
import platform
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service import gauges
from service.api import drift, health, labels, models, predict_docs, queue, refinement, versions
from service.background import end
from service.drift.ledger import Ledger
from service.drift.monitor import Monitor
from service.drift.report.decision import Terms
from service.drift.watch import Watches
from service.edge.framework_errors import translate
from service.edge.keys import DOCS_FILES
from service.edge.middleware import Edge
from service.edge.predict import Predict
from service.errors import StartError
from service.inference.admission import Admission
from service.inference.engine import runtime_version
from service.labelling.drain import Drain
from service.labelling.endings import Endings
from service.labelling.janitor import Janitor
from service.labelling.journal.journal import Journal
from service.labelling.queue.blobs import BlobStore
from service.labelling.queue.policy import DAY_S, QueuePolicy
from service.labelling.queue.redis_queue import RedisQueue
from service.redis.private_valkey import private_valkey
from service.redis.server import RedisServer
from service.resources import Resources
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing, open_tracing
from service.v2 import infer, repository
from service.v2 import models as v2_models
from service.versions.bundle_store import BundleStore, PatientStore
from service.versions.loaded_version import VersionLoader
from service.versions.probation import Limits, Probations
from service.versions.refinement_lock import RefinementLock
from service.versions.registry import Registry
from service.versions.replicas import Replicas

LEAVE_S = 1.0  # at the end, for saying that this replica leaves
FLUSH_S = 5.0  # at the end, for the drain; samples that it leaves stay in the journal for the next start

# Off even where a provider or FASTAPI_OTEL_AUTO_CONFIGURE is set: FastAPI's spans and logs hold queries and exceptions.
FASTAPI_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}

DESCRIPTION = """Serves an image-regression model and forecasts, with every prediction, the loss it is about to make.
Lossy inputs go to a labelling queue: lease and label them there, and train the next version on the labels."""


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application. Its lifespan raises StartError when the service cannot start."""
    metrics, version = Metrics(settings.provider), importlib.metadata.version("losscast")
    tracing = open_tracing(version)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if tracing is not None:
                await stack.enter_async_context(tracing.running())
            app.state.resources = await _open(settings, metrics, tracing, stack)
            yield

    app = FastAPIOffline(  # /docs brings its own scripts: production networks are often closed
        title="Losscast",
        description=DESCRIPTION,
        version=version,
        lifespan=lifespan,
        redoc_url=None,
        static_url=DOCS_FILES,
        telemetry=FASTAPI_TELEMETRY,
    )
    # The middleware checks the keys; this gives /docs its Authorize button.
    documented = [Depends(HTTPBearer(auto_error=False))] if settings.api_keys else []
    modules = (predict_docs, queue, labels, drift, models, versions, refinement, health, v2_models, infer, repository)
    for module in modules:
        app.include_router(module.router, dependencies=documented)
    for kind in (HTTPException, RequestValidationError):
        app.add_exception_handler(kind, translate)
    keys = [key.get_secret_value() for key in settings.api_keys]
    app.add_middleware(Predict)
    app.add_middleware(Edge, keys=keys, max_body_bytes=settings.max_body_bytes, metrics=metrics)
    if tracing is not None:
        app.add_middleware(tracing.around)
    return app


async def _open(settings: Settings, metrics: Metrics, tracing: Tracing | None, stack: AsyncExitStack) -> Resources:
    metrics.built(importlib.metadata.version("losscast"), platform.python_version(), runtime_version())
    journal = Journal.open(
        settings.state / "journal", max_bytes=settings.journal_max_bytes, max_rows=settings.journal_max_rows
    )
    stack.push_async_callback(journal.close)
    store = PatientStore(BundleStore(settings.bundles))
    watches = Watches(settings.drift_source_interval_s)
    decoders = stack.enter_context(ThreadPoolExecutor(settings.decode_workers, thread_name_prefix="decode"))
    loader = VersionLoader(settings, metrics, decoders, journal, watches, tracing)
    registry = await _open_models(settings, metrics, store, loader, stack)
    blobs = BlobStore.open(settings.blobs or settings.state / "blobs")
    redis = await _open_redis(settings, stack)
    label_queue = RedisQueue(redis, blobs, _policy(settings))
    drain, endings = Drain(journal, blobs, label_queue), Endings(journal, label_queue)
    janitor = Janitor(label_queue, blobs)
    monitor = Monitor(watches, Ledger(redis), label_queue, metrics, _terms(settings))
    replicas = Replicas(redis, registry)
    stack.push_async_callback(replicas.close, LEAVE_S)
    probations = Probations(registry, monitor, metrics, Limits(settings.probation_s, settings.probation_images))
    works = {
        "janitor": janitor.run(lambda: registry.names),
        "endings": endings.run(),
        "drain": drain.run(),
        "drift monitor": monitor.run(registry.live_version),
        "replicas": replicas.run(),
    }
    if settings.probation_s:
        works["probations"] = probations.run()
    if settings.poll_s:
        works["store's follower"] = registry.run(settings.poll_s)
    background = [await stack.enter_async_context(_running(name, work)) for name, work in works.items()]
    stack.push_async_callback(drain.flush, FLUSH_S)
    stack.push_async_callback(monitor.close, FLUSH_S)
    admission = Admission(settings.max_in_flight, settings.max_in_flight_bytes)
    gauges.watch_line(metrics, admission, store)
    gauges.watch_labelling(metrics, journal, drain, endings, janitor)
    gauges.watch_drift(metrics, watches, monitor)
    gauges.watch_probation(metrics, probations)
    gauges.watch_limits(metrics, settings)
    return Resources(
        settings=settings,
        models=registry,
        replicas=replicas,
        probations=probations,
        refinement_lock=RefinementLock(redis),
        admission=admission,
        queue=label_queue,
        endings=endings,
        blobs=blobs,
        metrics=metrics,
        journal=journal,
        drift=monitor,
        background=background,
    )


async def _open_models(
    settings: Settings, metrics: Metrics, store: PatientStore, loader: VersionLoader, stack: AsyncExitStack
) -> Registry:
    registry = Registry(store, loader.open, metrics, settings.model, settings.models)
    stack.push_async_callback(registry.close)
    await registry.open()
    return registry


async def _open_redis(settings: Settings, stack: AsyncExitStack) -> RedisServer:
    """The server of the labelling queue and of the drift ledger."""
    if settings.redis_url is None:
        url = f"unix://{await stack.enter_async_context(private_valkey(settings.state / 'valkey'))}"
    else:
        url = settings.redis_url.get_secret_value()
    try:
        server = RedisServer.open(url, settings.redis_timeout_s)
    except ValueError as error:
        raise StartError(f"LOSSCAST_REDIS_URL: {error}") from error
    stack.push_async_callback(server.close)
    return server


def _policy(settings: Settings) -> QueuePolicy:
    return QueuePolicy(
        max_pending=settings.max_pending,
        max_bytes=settings.max_queue_bytes,
        max_pending_per_source=settings.max_pending_per_source,
        labels_per_hour=settings.labels_per_hour,
        max_expiries=settings.max_expiries,
        audit_share=settings.audit_share,
        ood_share=settings.ood_share,
        retention_s=settings.retention_days * DAY_S,
    )


def _terms(settings: Settings) -> Terms:
    return Terms(
        threshold=settings.drift_threshold,
        loss_rise=settings.drift_loss_rise,
        window_s=settings.drift_window_s,
        flush_s=settings.drift_flush_s,
    )


@asynccontextmanager
async def _running(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        await end(task)
