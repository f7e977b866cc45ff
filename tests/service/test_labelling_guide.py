"""docs/labelling.md keeps its word: its scripts run against a real service, its commands exist."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stamina

from service.client import DEFAULT_URL, LosscastClient
from tests import command_line

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "labelling.md").read_text()
SCRIPT, SEND, RECEIVE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = sorted(set(re.findall(r"losscast (queue [a-z]+)", GUIDE)))


@pytest.fixture
def sample_ids(service_url: str, grey: Callable[..., bytes]) -> list[str]:
    """Samples of 40 x 40 pixels that wait."""
    with LosscastClient(service_url) as client:
        before = client.stats()["accepted"]
        replies = [client.predict(grey(0.9, (40, 40), tag=before + tag)) for tag in (1, 2)]
        for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=30, wait_max=0.05):
            with attempt:
                assert client.stats()["pending"] == 2
        return sorted(reply.sample_id for reply in replies)


def run(script: str, url: str, **names: Any) -> None:
    assert DEFAULT_URL in script
    exec(compile(script.replace(DEFAULT_URL, url), "docs/labelling.md", "exec"), names)  # noqa: S102 - the guide's own


def labels(url: str, sample_ids: list[str]) -> list[Any]:
    with LosscastClient(url) as client:
        return [line.label.values for line in client.labels() if line.sample_id in sample_ids]


def test_the_script_labels_what_it_can_and_skips_the_rest(service_url: str, sample_ids: list[str]) -> None:
    answers = iter([[[1, 2], None], None])
    run(SCRIPT, service_url, annotate=lambda *_: next(answers))
    assert labels(service_url, sample_ids) == [[[1.0, 2.0], None]]
    with LosscastClient(service_url) as client:
        (left,) = client.lease(2, annotator="ada").samples
        client.reject(left, "the other test wants an empty queue")


def test_labels_from_the_platform_come_back_in_pixels(
    service_url: str, sample_ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(SEND, service_url)
    tasks = json.loads(Path("tasks.json").read_text())
    assert sorted(task["data"]["sample_id"] for task in tasks) == sample_ids
    exported = [{"data": task["data"], "annotations": task["predictions"]} for task in tasks]
    Path("export.json").write_text(json.dumps(exported))
    run(RECEIVE, service_url)
    run(RECEIVE, service_url)  # as often as one likes
    predicted = [[10.0, 10.0], [30.0, 30.0]]
    assert labels(service_url, sample_ids) == [[pytest.approx(point) for point in predicted]] * 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_exists(command: str) -> None:
    result = command_line.run(*command.split(), "--help", environment={})
    assert result.returncode == 0, result.stderr
