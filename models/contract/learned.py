"""Which samples a version learned from: `learned.txt` in its folder, one id a line, with those of its parents."""

from pathlib import Path

from models.contract.bundle import BundleError

FILE = "learned.txt"


def learned_by(version: Path) -> list[str]:
    """version: the folder of one. None for a version that was trained without labels. Raises BundleError."""
    path = version / FILE
    try:
        return path.read_text().split()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def versions_that_learned(model_folder: Path) -> dict[int, list[str]]:
    """The ids of the samples of each version that learned from some, by its number. Raises BundleError."""
    numbers = sorted(int(path.parent.name) for path in model_folder.glob(f"*/{FILE}") if path.parent.name.isdecimal())
    return {number: learned_by(model_folder / str(number)) for number in numbers}
