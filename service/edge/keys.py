"""The keys of the service, and the paths that need none."""

import secrets
from collections.abc import Sequence

from service.errors import Forbidden, Unauthorized
from service.inference.intake import Intake

DOCS_FILES = "/docs-files"
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready", "/metrics", "/docs", "/openapi.json")


class Keys:
    def __init__(self, keys: Sequence[str]) -> None:
        """keys: none leaves every path open."""
        self._known = [key.encode() for key in keys]

    def check(self, path: str, intake: Intake) -> None:
        """Raises Unauthorized for a request without a key, and Forbidden for an unknown key."""
        if not self._known or path in OPEN_PATHS or path.startswith(f"{DOCS_FILES}/"):
            return
        key = intake.key
        if key is None:
            raise Unauthorized("a key is needed: send the header `Authorization: Bearer <key>`")
        if not any(secrets.compare_digest(key, known) for known in self._known):
            raise Forbidden("this key is not known: ask the operator for one of LOSSCAST_API_KEYS")
