"""What the offline commands share: tasks by name, progress bars, and errors in one line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.contract.runtime import RuntimeMissing

TASKS = ("digits", "pose")

Data = Annotated[Path | None, typer.Option(help="Folder of the task's data, for a task that does not make its own.")]


def load_task(name: str, data: Path | None, seed: int) -> Any:
    """The task for the model of one seed. Pose models of different seeds hold out different images for their heads."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    if name == "pose":
        from models.tasks.pose import FOLDS, Pose  # noqa: PLC0415 - heavy imports are inside commands

        if data is None:
            raise ValueError("pose needs --data, the folder with labels.json and crops-*.tar")
        return Pose(data, seed % FOLDS)
    if data is not None:
        raise ValueError(f"{name} makes its own data and takes no --data")
    from models.tasks.digits import Digits  # noqa: PLC0415 - heavy imports are inside commands

    return Digits()


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A callback that shows one bar for each kind of work."""
    columns = (TextColumn("{task.description:<20}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}
    progress = Progress(*columns, console=Console(stderr=True))

    def update(what: str, done: int, total: int) -> None:
        if not bars:
            progress.start()  # not earlier: an immediate refusal is one line
        bar = bars.get(what)
        if bar is None:
            bar = bars[what] = progress.add_task(what, total=total)
        progress.update(bar, completed=done)

    try:
        yield update
    finally:
        if bars:
            progress.stop()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns an error that the user can fix into one line with exit code 1. Other errors keep their traceback."""
    try:
        yield
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed; training needs more than serving: pip install 'losscast[train,cpu]'")
    except (RuntimeMissing, ValueError, OSError) as error:
        fail(" ".join(str(error).split()))


def fail(message: str, status: int = 1) -> NoReturn:
    """Prints one line and ends the command."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"losscast: {message}", markup=False, style="red")
    raise typer.Exit(status)
