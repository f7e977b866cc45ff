"""docs/operations.md lists every setting with its default."""

import os
import re
from pathlib import Path

import pytest

from service.settings import Settings

ROW = re.compile(r"^\| `LOSSCAST_(\w+)` \| (.+?) \| .+ \|$", re.MULTILINE)


@pytest.fixture
def documented(repository: Path) -> dict[str, str]:
    """The defaults in the guide, by field name."""
    return {name.lower(): default for name, default in ROW.findall((repository / "docs/operations.md").read_text())}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LOSSCAST_")]:
        monkeypatch.delenv(name)


def test_every_setting_is_in_the_table_in_the_order_of_the_code(documented: dict[str, str]) -> None:
    assert list(documented) == list(Settings.model_fields)


def test_the_defaults_in_the_table_are_the_defaults(
    documented: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = Settings()
    for field, text in documented.items():
        if text == "unset":
            assert getattr(defaults, field) in (None, ()), field
        elif text.startswith("`"):
            monkeypatch.setenv(f"LOSSCAST_{field.upper()}", text.strip("`"))
            assert getattr(Settings(), field) == getattr(defaults, field), field
        else:
            assert Settings.model_fields[field].default_factory is not None, field


def test_every_variable_named_anywhere_in_the_guide_is_read_by_the_service_or_the_command_line(
    repository: Path,
) -> None:
    named = set(re.findall(r"LOSSCAST_\w*[A-Z]", (repository / "docs/operations.md").read_text()))
    commands = [repository / "service/cli.py", *(repository / "service/commands").glob("*.py")]
    options = {name for path in commands for name in re.findall(r'envvar="(\w+)"', path.read_text())}
    assert named == {f"LOSSCAST_{field.upper()}" for field in Settings.model_fields} | options


def test_every_metric_named_in_the_guide_is_listed(repository: Path) -> None:
    guide, listed = ((repository / "docs" / name).read_text() for name in ("operations.md", "metrics.md"))
    named = set(re.findall(r"`(losscast_\w+)[`{]", guide))
    assert named
    assert named <= set(re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE))
