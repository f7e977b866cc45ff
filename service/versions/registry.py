"""The models that are served, as the bundle store names them, while it changes.

The whole store, or the models that the settings list. One thing at a time is opened; requests meanwhile take
the lines that are there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager

from models.contract.manifest import Manifest
from service.errors import NotFound, Unavailable
from service.predictor import Predictor
from service.telemetry.metrics import Metrics
from service.versions.bundle_store import Bundle, PatientStore, StoreAway
from service.versions.loaded_version import Line
from service.versions.served_model import ModelState, ServedModel

log = logging.getLogger(__name__)


class Registry:
    def __init__(
        self,
        store: PatientStore,
        open_line: Callable[[Bundle], Awaitable[Line]],
        metrics: Metrics,
        default: str,
        only: Sequence[str] = (),
    ) -> None:
        """only: what is served, beside the default model; empty: the whole store."""
        self.default = default
        self._store, self._open_line, self._metrics = store, open_line, metrics
        self._only = only
        self._models: dict[str, ServedModel] = {}
        self._changing = asyncio.Lock()
        self._is_away = False  # whether the store was, when last polled

    @property
    def names(self) -> list[str]:
        """The models known here, the default one first, loaded or not."""
        return list(self._models)

    def live(self, model: str | None = None) -> Predictor:
        """The predictor of a model's live version, of the default model when left out. Raises as `using`."""
        return self._model(model).line().predictor

    def using(self, model: str | None = None, version: str | None = None) -> AbstractContextManager[Predictor]:
        """Holds a line while a request is answered: of the default model, of its live version, when left out.

        Raises NotFound, and Unavailable for a model or version that is loading or failed to.
        """
        return self._model(model).line(version).hold()

    def live_version(self, model: str) -> str | None:
        """None: none is. Raises NotFound."""
        return self._model(model).live

    def line(self, model: str, version: str | None = None) -> Line:
        """To look at, not to use. Raises as `using`."""
        return self._model(model).line(version)

    def manifest(self, model: str | None = None) -> Manifest:
        """Of the version that is or was live last: tasks stay known of a model that was unloaded. Raises as `using`."""
        known = self._model(model)
        return known.manifest or known.line().predictor.manifest

    def index(self) -> Sequence[ModelState]:
        """Every version of every model known here, with its state."""
        return [state for model in self._models.values() for state in model.states()]

    def dead(self) -> list[str]:
        """Lines whose batcher has stopped."""
        return [
            f"{model.name} {version}"
            for model in self._models.values()
            for version, line in model.lines.items()
            if not line.alive
        ]

    async def open(self) -> None:
        """Serves what the store names. Raises what is wrong with the default model; of others it is logged."""
        async with self._changing:
            await self._known(self.default).follow(is_strict=True)
        await self.poll()

    async def run(self, every_s: float) -> None:
        """Follows the store until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await self.poll()

    async def poll(self) -> None:
        """Looks at the store once; whatever is wrong there leaves what is served as it is."""
        async with self._changing:
            try:
                names = self._only or await self._store.models()
                for model in [self._known(name) for name in dict.fromkeys([*self._models, *names])]:
                    if model.is_wanted:
                        await model.follow()
            except StoreAway as error:
                if not self._is_away:
                    log.error("models are served on as they are: %s", error)  # noqa: TRY400 - one line, once
                self._is_away = True
            else:
                self._is_away = False

    async def load(self, model: str) -> None:
        """Loads what the store names of a model, and tries again what failed.

        Raises NotFound when the store has no such model, Conflict when its live version cannot be had (the one that
        is served stays), Unavailable when the store does not answer.
        """
        async with self._changing:
            try:
                if model not in self._models and model not in await self._store.models():
                    raise NotFound(f"the bundle store has no model {model!r}: train it, or copy it there, first")
                await self._known(model).load()
            except StoreAway as error:
                raise Unavailable(str(error)) from error

    async def unload(self, model: str) -> None:
        """Takes a model out of service until it is loaded by hand or the service starts again. Raises NotFound."""
        async with self._changing:
            self._model(model).unload()

    async def close(self) -> None:
        for model in self._models.values():
            await model.close()

    def _model(self, name: str | None) -> ServedModel:
        name = self.default if name is None else name
        model = self._models.get(name)
        if model is None:
            raise NotFound(f"there is no model {name!r}: known here are {', '.join(self._models)}")
        return model

    def _known(self, name: str) -> ServedModel:
        if name not in self._models:
            self._models[name] = ServedModel(name, self._store, self._open_line, self._metrics)
        return self._models[name]
