"""From a bundle to a line that answers: engine, tuning, batcher, predictor; and its end.

Whoever uses a line holds it; one that was replaced is closed when its last user has let go.
"""

import asyncio
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


class Line:
    """One version's predictor with what it owns."""

    def __init__(self, predictor: Predictor, tuning: Tuning, stack: AsyncExitStack) -> None:
        self.predictor = predictor
        self.tuning = tuning
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

    async def retire(self) -> None:
        """Closes it once nobody holds it. Nobody new may take it meanwhile."""
        while self._users > 0:  # below it after `abandon`, when users let go of what nobody counts any more
            self._free.clear()
            await self._free.wait()
        await self._stack.aclose()

    def abandon(self) -> None:
        """Lets go of it for all its users: the service ends."""
        self._users = 0
        self._free.set()


@dataclass(frozen=True, slots=True)
class LineMaker:
    """Opens lines that share everything but their engine and its queue."""

    settings: Settings
    metrics: Metrics
    decoders: ThreadPoolExecutor
    journal: Journal
    watches: Watches
    tracing: Tracing | None = None

    async def open(self, bundle: Bundle) -> Line:
        """Loads, tunes and warms up in a thread. Raises RuntimeMissing, EngineError, BundleError."""
        settings, manifest = self.settings, bundle.manifest
        operating_point = _operating_point(settings, manifest)
        engine, tuning = await asyncio.to_thread(self._start, bundle)
        async with AsyncExitStack() as opening:  # closes what is open already when the rest fails
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
            return Line(predictor, tuning, opening.pop_all())

    def _watch(self, manifest: Manifest) -> Watch:
        try:
            return self.watches.open(manifest)
        except ValueError as error:
            raise BundleError(f"{error}: export the bundle anew") from error

    def _start(self, bundle: Bundle) -> tuple[Engine, Tuning]:
        settings = self.settings
        engine = Engine(bundle.onnx, bundle.manifest, settings.provider, settings.hang_s)
        return engine, tune(engine, settings.max_batch, settings.workers)


def _operating_point(settings: Settings, manifest: Manifest) -> str:
    """The one that the settings name; it is meant for the default model, others may not have it."""
    name = settings.operating_point or manifest.default_operating_point
    if name in manifest.operating_points:
        return name
    if manifest.model == settings.model:
        known = ", ".join(manifest.operating_points)
        raise BundleError(f"the bundle has no operating point {name!r}: set LOSSCAST_OPERATING_POINT to one of {known}")
    return manifest.default_operating_point
