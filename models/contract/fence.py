"""The fence of a bundle store: a refinement that lost its lock to another one can write nothing here any more.

The service gives each refinement a token that is larger than all before it. The largest one that has come here is kept
beside the candidates, and whoever has a smaller one is refused.
"""

from dataclasses import dataclass
from pathlib import Path

from models.contract.bundle import BundleError
from models.contract.durable import replace_durably

FILE = ".refinement.token"  # in the folder of the candidates


class FencedOff(BundleError):  # noqa: N818 - the condition is the name
    """A later refinement of the model has written here. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Fence:
    """For the refinement with that token."""

    candidates: Path  # folder
    token: int

    def enter(self) -> None:
        """Keeps out whoever has a smaller token, from now on. Raises FencedOff, OSError and BundleError."""
        if self.check() < self.token:
            replace_durably(self.candidates / FILE, b"%d\n" % self.token)

    def check(self) -> int:
        """The largest token that came here. Raises FencedOff if it is larger, and BundleError for a damaged file."""
        largest = largest_token(self.candidates)
        if largest > self.token:
            raise FencedOff(
                f"a later refinement has taken over {self.candidates.parent}: this one (token {self.token}) lost its "
                f"lock to token {largest} and stops; the live version is as it was"
            )
        return largest


def largest_token(candidates: Path) -> int:
    """0 where no refinement with a token has been. Raises BundleError for a damaged file."""
    path = candidates / FILE
    try:
        return int(path.read_bytes())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} is damaged: remove it while no refinement runs") from error
