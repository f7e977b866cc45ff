"""One version that is loaded: its engine, batcher and predictor, from the bundle to the end.

Each request holds the version that it uses. A version that was replaced is closed when its last user lets go.
"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

from models.contract.bundle import BundleError
from models.contract.manifest import Manifest
from service.drift.watch import Watch, Watches
from service.inference.batcher import Batcher
from service.inference.engine import Engine
from service.inference.tuning import Tuning, tune
from service.labelling.journal.journal import Journal
from service.predictor import Predictor
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing
from service.versions.bundle_store import Bundle


class LoadedVersion:
    """The predictor of one version, with its engine and all else that only this version uses."""

    def __init__(self, predictor: Predictor, tuning: Tuning, engine: Engine, stack: AsyncExitStack) -> None:
        self.predictor = predictor
        self.tuning = tuning
        self._engine = engine
        self._stack = stack
        self._users = 0
        self._free = asyncio.Event()

    @property
    def alive(self) -> bool:
        return self.predictor.batcher.alive

    @contextmanager
    def hold(self) -> Iterator[Predictor]:
        self._users += 1
        try:
            yield self.predictor
        finally:
            self._users -= 1
            if self._users <= 0:
                self._free.set()

    def time_run_s(self) -> float:
        """Runs one blank canvas, beside the traffic, and takes the time. Hold the version meanwhile."""
        began = time.perf_counter()
        self._engine.rehearse(1)
        return time.perf_counter() - began

    async def retire(self) -> None:
        """Closes it once nobody holds it. The caller gives it to nobody else meanwhile."""
        while self._users > 0:  # `abandon` sets it to 0, and users who let go later take it below
            self._free.clear()
            await self._free.wait()
        await self._stack.aclose()

    def abandon(self) -> None:
        """Lets go of it on behalf of all its users, because the service ends."""
        self._users = 0
        self._free.set()


@dataclass(frozen=True, slots=True)
class VersionLoader:
    """Opens versions. They share everything but the engine, its batcher and what drift counts."""

    settings: Settings
    metrics: Metrics
    decoders: ThreadPoolExecutor
    journal: Journal
    watches: Watches
    tracing: Tracing | None = None

    async def open(self, bundle: Bundle) -> LoadedVersion:
        """Loads, tunes and warms up in a thread. Raises EngineError and BundleError."""
        settings, manifest = self.settings, bundle.manifest
        operating_point = _operating_point(settings, manifest)
        engine, tuning = await asyncio.to_thread(self._start, bundle)
        async with AsyncExitStack() as opening:  # when a step fails, this closes what the steps before it opened
            opening.callback(engine.close)
            watch = self._watch(manifest)
            opening.callback(watch.retire)
            name = f"{manifest.model} {manifest.version}"
            batcher = await opening.enter_async_context(
                Batcher(engine, max_batch=tuning.max_batch, workers=tuning.workers, name=name, hang_s=settings.hang_s)
            )
            predictor = Predictor(
                manifest=manifest,
                operating_point=operating_point,
                max_pixels=settings.max_pixels,
                audit_rate=settings.audit_rate,
                decoders=self.decoders,
                batcher=batcher,
                journal=self.journal,
                metrics=self.metrics.for_model(manifest),
                drift=watch.tally,
                tracing=self.tracing,
            )
            return LoadedVersion(predictor, tuning, engine, opening.pop_all())

    def _watch(self, manifest: Manifest) -> Watch:
        try:
            return self.watches.open(manifest)
        except ValueError as error:
            raise BundleError(f"{error}: export the bundle again") from error

    def _start(self, bundle: Bundle) -> tuple[Engine, Tuning]:
        settings = self.settings
        engine = Engine(bundle.onnx, bundle.manifest, settings.provider, settings.hang_s)
        return engine, tune(engine, settings.max_batch, settings.workers)


def _operating_point(settings: Settings, manifest: Manifest) -> str:
    """The operating point of the settings. It is meant for the default model; others that lack it use their own."""
    name = settings.operating_point or manifest.default_operating_point
    if name in manifest.operating_points:
        return name
    if manifest.model == settings.model:
        known = ", ".join(manifest.operating_points)
        raise BundleError(f"the bundle has no operating point {name!r}: set LOSSCAST_OPERATING_POINT to one of {known}")
    return manifest.default_operating_point
