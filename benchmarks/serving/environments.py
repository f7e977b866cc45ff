"""A pinned environment for every server that is compared, in a folder that the user names.

Each holds one server and the packages of the service at the versions of constraints.txt, so that all have the same
versions of ONNX Runtime, numpy and the decoders.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PINS = {"mosec": "mosec==0.9.8", "litserve": "litserve==0.2.19", "bentoml": "bentoml==1.4.39"}
NAME = re.compile(r"[A-Za-z0-9._-]+")


def interpreter(server: str, folder: Path) -> Path:
    """The Python that runs the server: this one unless the server is pinned. Builds a missing environment."""
    if server not in PINS:
        return Path(sys.executable)
    place, wanted = folder / server, "\n".join([PINS[server], str(ROOT), *_constraints()])
    python, built = place / "bin" / "python", place / "built"
    if not built.exists() or built.read_text() != wanted:
        print(f"building {place} with {PINS[server]} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)  # noqa: S603 - our own command
        (place / "constraints.txt").write_text("\n".join(_constraints()))
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        shared = ["--constraint", str(place / "constraints.txt"), "--editable", f"{ROOT}[cpu]"]
        subprocess.run([*pip, *shared, PINS[server]], check=True)  # noqa: S603 - as above
        built.write_text(wanted)
    return python


def _constraints() -> list[str]:
    """The lines of constraints.txt for packages that the service names itself. Each server may choose the rest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["cpu"]
    names = {match.group().lower() for one in needed if (match := NAME.match(one))}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if (match := NAME.match(line)) and match.group().lower() in names]
