"""The models that are served. They follow the bundle store while it changes.

All models of the store are served, or those that the settings list. One version is opened at a time; meanwhile
requests use the versions that are loaded.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager

from models.contract.bundle import BundleError
from models.contract.live import LiveState, Swap
from models.contract.manifest import Manifest
from service.errors import NotFound, StartError, Unavailable
from service.predictor import Predictor
from service.telemetry.metrics import Metrics
from service.versions.bundle_store import Bundle, PatientStore, StoreAway
from service.versions.candidates import Candidates
from service.versions.live_changes import LiveChange, as_service_errors, carry_out
from service.versions.loaded_version import LoadedVersion
from service.versions.served_model import ServedModel, VersionEntry

log = logging.getLogger(__name__)


class Registry:
    def __init__(
        self,
        store: PatientStore,
        open_version: Callable[[Bundle], Awaitable[LoadedVersion]],
        metrics: Metrics,
        default: str,
        only: Sequence[str] = (),
    ) -> None:
        """only: the models that are served beside the default one; empty: all of the store."""
        self.default = default
        self.moved = asyncio.Event()  # set whenever another version goes live here; the reader clears it
        self._store, self._open_version, self._metrics = store, open_version, metrics
        self._only = only
        self._models: dict[str, ServedModel] = {}
        self._changing = asyncio.Lock()
        self._is_away = False  # whether the store was away at the last look

    @property
    def names(self) -> list[str]:
        """The models known here, the default one first, loaded or not."""
        return list(self._models)

    def live(self, model: str | None = None) -> Predictor:
        """The predictor of a model's live version, of the default model when left out. Raises as `using`."""
        return self._model(model).loaded().predictor

    def using(self, model: str | None = None, version: str | None = None) -> AbstractContextManager[Predictor]:
        """Holds a version while a request is answered. Left out: the default model, and its live version.

        Raises NotFound, and Unavailable for a model or version that is loading or failed to.
        """
        return self._model(model).loaded(version).hold()

    def live_version(self, model: str) -> str | None:
        """None while the model has none. Raises NotFound."""
        return self._model(model).live

    def served(self) -> dict[str, str | None]:
        """The live version of every model that is to be served here; None while none of its versions works."""
        return {name: model.live for name, model in self._models.items() if model.is_wanted}

    def loaded(self, model: str, version: str | None = None) -> LoadedVersion:
        """A version to look at. Requests take it by `using`. Raises as `using`."""
        return self._model(model).loaded(version)

    def manifest(self, model: str | None = None) -> Manifest:
        """Of the version that is live, or was live last: samples of an unloaded model can be labelled still.

        Raises as `using`.
        """
        known = self._model(model)
        return known.manifest or known.loaded().predictor.manifest

    def index(self) -> Sequence[VersionEntry]:
        """Every version of every model known here, with its state."""
        return [state for model in self._models.values() for state in model.states()]

    def dead(self) -> list[str]:
        """Versions whose batcher has stopped."""
        return [
            f"{model.name} {version}"
            for model in self._models.values()
            for version, loaded in model.versions.items()
            if not loaded.alive
        ]

    async def open(self) -> None:
        """Serves the versions that the store names. Faults of models that are not the default one are logged.

        Raises StartError when the default model cannot be served.
        """
        async with self._changing:
            try:
                await self._known(self.default).follow(is_strict=True)
            except BundleError as error:
                raise StartError(str(error)) from error
        await self.poll()

    async def run(self, every_s: float) -> None:
        """Follows the store until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await self.poll()

    async def poll(self) -> None:
        """Looks at the store once. Faults there change nothing about the versions that are served."""
        async with self._changing:
            try:
                names = self._only or await self._store.models()
                for model in [self._known(name) for name in dict.fromkeys([*self._models, *names])]:
                    if model.is_wanted:
                        await model.follow()
            except StoreAway as error:
                if not self._is_away:
                    log.error("the served versions stay as they are: %s", error)  # noqa: TRY400 - one line, once
                self._is_away = True
            else:
                self._is_away = False

    async def load(self, model: str) -> None:
        """Loads the versions that the store names of a model, those that failed before included.

        Raises NotFound when the store has no such model, Conflict when its live version fails (the version that is
        served stays), Unavailable when the store does not answer.
        """
        async with self._changing:
            try:
                if model not in self._models and model not in await self._store.models():
                    raise NotFound(f"the bundle store has no model {model!r}: train it, or copy it there, first")
                await self._known(model).load()
            except StoreAway as error:
                raise Unavailable(str(error)) from error

    async def state(self, model: str) -> LiveState:
        """What is live in the store, and how that came about. Raises NotFound, Conflict for damage, Unavailable."""
        async with self._changing:
            with as_service_errors():
                await self._check_stored(model)
                return await self._store.state(model)

    async def candidates(self, model: str) -> Candidates:
        """The candidates of a model in the store. Raises NotFound, Conflict and Unavailable."""
        async with self._changing:
            with as_service_errors():
                await self._check_stored(model)
                return await self._store.candidates(model)

    async def learned(self, model: str) -> dict[int, list[str]]:
        """Ids of the samples that each version of a model learned from. Raises NotFound, Conflict and Unavailable."""
        async with self._changing:
            with as_service_errors():
                await self._check_stored(model)
                return await self._store.learned(model)

    async def change_live(self, model: str, change: LiveChange) -> Swap:
        """Promotes a version or rolls one back, and serves it here at once.

        Raises NotFound for an unknown model, and what `carry_out` raises.
        """
        async with self._changing:
            with as_service_errors():
                await self._check_stored(model)
            return await carry_out(change, self._store, self._known(model), self._metrics)

    async def unload(self, model: str) -> None:
        """Takes a model out of service until it is loaded by hand or the service starts again. Raises NotFound."""
        async with self._changing:
            self._model(model).unload()

    async def close(self) -> None:
        for model in self._models.values():
            await model.close()

    async def _check_stored(self, model: str) -> None:
        if model not in (stored := await self._store.models()):
            raise NotFound(f"the bundle store has no model {model!r}: it has {', '.join(stored) or 'none'}")

    def _model(self, name: str | None) -> ServedModel:
        name = self.default if name is None else name
        model = self._models.get(name)
        if model is None:
            raise NotFound(f"there is no model {name!r}: known here are {', '.join(self._models)}")
        return model

    def _known(self, name: str) -> ServedModel:
        if name not in self._models:
            self._models[name] = ServedModel(name, self._store, self._open_version, self._metrics, self.moved.set)
        return self._models[name]
