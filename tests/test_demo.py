"""The demonstration runs from start to end on the shipped bundle and leaves nothing behind, however it ends."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.digits import CLEAN, CORRUPTED
from demo.loop_picture import Compared, Moment
from demo.loop_picture import draw as draw_loop
from demo.running import NotServing, running_service
from demo.traffic import Traffic
from models.tasks.digits import Digits
from service.client import LosscastClient

ROOT = Path(__file__).resolve().parents[1]
DEMO = [sys.executable, "-u", str(ROOT / "demo" / "digits.py")]
LIMIT_S = 180


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files. Its name is short, as it holds sockets, and marks the processes of this test."""
    folder = Path(tempfile.mkdtemp(prefix="demo-test-"))
    yield folder
    shutil.rmtree(folder)


def _environment(scratch: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(scratch), "COLUMNS": "200"}


def _assert_nothing_left(scratch: Path, output: str) -> None:
    assert list(scratch.iterdir()) == []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue  # it has just ended, or we may not read it
        assert os.fsencode(scratch) not in told
    port = re.search(r"http://127\.0\.0\.1:(\d+)", output)
    assert port is not None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port[1]))) != 0


@pytest.mark.slow
def test_demo_tells_its_story_and_leaves_nothing_running(scratch: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "picture" / "demo.png"
    command, environment = [*DEMO, "--picture", str(drawn)], _environment(scratch)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CLEAN + CORRUPTED} answers by predicted loss" in done.stdout
    assert len(re.findall(r"^Leased [0-9a-f]+", done.stdout, re.MULTILINE)) == 3
    assert "labelled 1" in done.stdout
    assert "leased 2" in done.stdout
    assert "losscast_verdicts_total" in done.stdout
    picture = cv2.imread(str(drawn), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert drawn.stat().st_size < 300_000  # it is part of the README
    assert picture.shape[1] > picture.shape[0] > 300
    assert picture.std() > 10  # not a blank sheet
    _assert_nothing_left(scratch, done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_that_is_interrupted_leaves_nothing_running(scratch: Path, number: signal.Signals) -> None:
    # A background job of a shell ignores SIGINT, and so do its children. A handler here makes the demo receive it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(DEMO, env=_environment(scratch), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = ""
        while "Service ready" not in output:
            line = process.stdout.readline()
            assert line, output
            output += line
        process.send_signal(number)
        output += process.stdout.read()
        assert process.wait(LIMIT_S) == 128 + number
    _assert_nothing_left(scratch, output)


@pytest.mark.slow
def test_traffic_of_the_loop_changes_when_told_and_its_losses_are_drawn(scratch: Path, tmp_path: Path) -> None:
    state, task = scratch / "state", Digits()
    state.mkdir()
    with (
        running_service(ROOT / "bundles", "digits", state) as url,
        LosscastClient(url, retry_s=0) as client,
        Traffic(client, task, rate=300) as traffic,
    ):
        traffic.wait_for(200)
        before = len(traffic.posted)
        traffic.meet()
        traffic.wait_for(200)
    assert traffic.failed == []
    true = np.array([one.true_loss for one in traffic.posted])
    assert true[before + 1 :].mean() > 1.2 * true[:before].mean()  # negatives are new to the model
    assert len(traffic.truth) == len(traffic.posted)  # the annotator knows each canvas
    outputs = np.zeros((4, 2), np.float32)
    same = Compared(np.zeros((64, 64, 1), np.uint8), outputs, outputs, 1.0)
    drawn = tmp_path / "loop.png"
    draw_loop(traffic.posted, [Moment(before, "the traffic changes")], [(same, same)], drawn)
    picture = cv2.imread(str(drawn), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert picture.std() > 10  # not a blank sheet


@pytest.mark.slow
def test_service_that_cannot_start_shows_its_log(scratch: Path) -> None:
    state = scratch / "state"
    state.mkdir()
    with (
        pytest.raises(NotServing, match=r"exit status 1.*\n.*has no model 'digits'"),
        running_service(scratch / "none", "digits", state),
    ):
        pytest.fail("there is no bundle to serve")
