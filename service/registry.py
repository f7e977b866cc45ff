"""The models that are served, each with the line of every version that its index names.

Whoever uses a line holds it: a line that was replaced is closed when its last user has let go.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import NotFound
from service.predictor import Predictor


class Registry:
    def __init__(self, default: str) -> None:
        self.default = default
        self._lines: dict[str, Predictor] = {}

    @property
    def names(self) -> list[str]:
        """The models served here."""
        return list(self._lines)

    def add(self, predictor: Predictor) -> None:
        self._lines[predictor.manifest.model] = predictor

    def live(self, model: str | None = None) -> Predictor:
        """The line of a model's live version, of the default model when left out. Raises NotFound."""
        name = model or self.default
        if name not in self._lines:
            raise NotFound(f"there is no model {name!r}: served here are {', '.join(self._lines)}")
        return self._lines[name]

    @contextmanager
    def using(self, model: str | None = None, version: str | None = None) -> Iterator[Predictor]:
        """Holds a line while a request is answered; the live version's when left out. Raises NotFound."""
        line = self.live(model)
        if version not in {None, line.manifest.version}:
            raise NotFound(
                f"there is no version {version!r} of {line.manifest.model}: {line.manifest.version} is served"
            )
        yield line
