import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.training.loop import Plan, Trainer, TrainingError, fit, reproducible

PLAN = Plan("toy", size=40, epochs=4, batch_size=8, learning_rate=1e-2, weight_decay=1e-2, average=0.9)
TWO_DEVICES = """
import sys
from pathlib import Path
from tests.models.training.test_loop import toy

toy(Path(sys.argv[1]), fatal=0, devices=2)
"""


def run_toy(
    trainer: Trainer | None = None, progress: Any = lambda *_: None, plan: Plan = PLAN, **parts: Any
) -> nn.Module:
    """Fits a small network with batch norm to fresh noise at every step, like an augmentation."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    inputs = torch.randn(plan.size, 3)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        noisy = batch + 0.1 * torch.randn(batch.shape)
        value: Tensor = (model(noisy).squeeze(1) - batch.sum(dim=1)).square().mean()
        return value

    with reproducible(1):
        fit(net, lambda _epoch: (inputs,), parts.pop("loss", loss), plan, trainer or Trainer.start(), progress, **parts)
    return net


def toy(folder: Path, fatal: int, devices: int) -> None:
    """One run of the toy on some number of processes. It kills itself in the epoch after `fatal`."""
    torch.set_num_threads(1)
    trainer = Trainer.start(devices=devices, folder=folder)

    def progress(step: int, steps: int) -> None:
        if fatal and step == fatal * steps // PLAN.epochs + 2:
            os.kill(os.getpid(), signal.SIGKILL)

    net = run_toy(trainer, progress)
    if trainer.fabric.is_global_zero:
        torch.save(net.state_dict(), folder / "weights.pt")


def run_in_process(folder: Path, fatal: int = 0) -> int:
    """Runs the toy in a process of its own, with the imports done; returns its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["models.training.loop"])
    process = context.Process(target=toy, args=(folder, fatal, 1))
    process.start()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(one, theirs[name]) for name, one in ours.items())


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights_to_the_byte(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    assert run_in_process(whole) == 0
    assert run_in_process(broken, fatal=2) == -signal.SIGKILL
    assert torch.load(broken / "toy.pt", weights_only=True)["epochs"] == 2
    assert not (broken / "weights.pt").exists()
    assert run_in_process(broken, fatal=3) == -signal.SIGKILL
    assert run_in_process(broken) == 0
    assert same(torch.load(broken / "weights.pt"), torch.load(whole / "weights.pt"))


@pytest.mark.slow
def test_two_processes_share_every_batch_and_end_alike(tmp_path: Path) -> None:
    script = tmp_path / "toy.py"  # each of the two processes runs it
    script.write_text(TWO_DEVICES)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    command = [sys.executable, str(script), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    assert torch.load(tmp_path / "toy.pt", weights_only=True)["epochs"] == PLAN.epochs
    assert (tmp_path / "weights.pt").exists()


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    expected = run_toy().state_dict()
    run_toy(Trainer.start(folder=tmp_path), plan=PLAN)
    (tmp_path / "toy.part").write_bytes(b"half a checkpoint")
    assert same(run_toy(Trainer.start(folder=tmp_path)).state_dict(), expected)


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    first = run_toy(Trainer.start(folder=tmp_path))
    steps: list[int] = []
    again = run_toy(Trainer.start(folder=tmp_path), lambda step, _: steps.append(step))
    assert steps == []
    assert same(first.state_dict(), again.state_dict())


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    run_toy(Trainer.start(folder=tmp_path))
    other = Plan("toy", size=40, epochs=5, batch_size=8, learning_rate=1e-2, weight_decay=1e-2, average=0.9)
    with pytest.raises(TrainingError, match=r"toy\.pt is of another training: .*give another folder"):
        run_toy(Trainer.start(folder=tmp_path), plan=other)


def test_keeping_a_folder_changes_nothing(tmp_path: Path) -> None:
    assert same(run_toy().state_dict(), run_toy(Trainer.start(folder=tmp_path)).state_dict())


def test_the_average_is_what_remains_and_without_one_the_last_weights_do() -> None:
    plain = Plan("toy", size=40, epochs=4, batch_size=8, learning_rate=1e-2, weight_decay=1e-2)
    assert not same(run_toy().state_dict(), run_toy(plan=plain).state_dict())


def test_figures_go_to_tensorboard_at_every_epoch(tmp_path: Path) -> None:
    def watch(module: nn.Module) -> dict[str, float]:
        return {"evaluating": float(not module.training)}

    trainer = Trainer.start(folder=tmp_path)
    run_toy(trainer, watch=watch)
    for logger in trainer.fabric.loggers:
        logger.finalize("success")
    (events,) = tmp_path.glob("events.out.tfevents.*")
    data = events.read_bytes()
    assert all(data.count(name) == PLAN.epochs for name in (b"toy/loss", b"toy/learning_rate", b"toy/evaluating"))


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_training_may_have_any_number_of_steps(steps: int) -> None:
    seen: list[tuple[int, int]] = []
    plan = Plan("toy", size=8, epochs=steps, batch_size=8, learning_rate=1e-2, weight_decay=0)
    run_toy(plan=plan, progress=lambda *step: seen.append(step))
    assert seen == [(step, steps) for step in range(1, steps + 1)]


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    with pytest.raises(TrainingError, match="the loss of the toy is nan: lower the learning rate"):
        run_toy(loss=lambda model, batch: model(batch).mean() * float("nan"))


def test_missing_devices_are_refused() -> None:
    with pytest.raises(TrainingError, match="cannot train on 1 'abacus' in 32-true"):
        Trainer.start(accelerator="abacus")
