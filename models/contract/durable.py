"""Writes files of a bundle store so that neither a reader nor a power cut finds half of one."""

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes) -> None:
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    write_durably(staging, content)
    staging.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
