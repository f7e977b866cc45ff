import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from service import settings as settings_module
from service.settings import Settings


def test_the_defaults_are_safe() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert settings.api_keys == ()
    assert settings.decode_workers >= 1


def test_without_keys_it_binds_to_loopback_only() -> None:
    for loopback in ("127.0.0.1", "127.3.2.1", "::1", "localhost"):
        assert Settings(host=loopback).host == loopback
    for host in ("0.0.0.0", "10.0.0.1", "::", "losscast.example"):  # noqa: S104 - what must be refused
        with pytest.raises(ValidationError, match="set LOSSCAST_API_KEYS"):
            Settings(host=host)


def test_keys_come_comma_separated_from_the_environment_and_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSCAST_API_KEYS", "alpha, beta,")
    monkeypatch.setenv("LOSSCAST_HOST", "0.0.0.0")  # noqa: S104 - allowed with keys
    settings = Settings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["alpha", "beta"]
    assert "alpha" not in repr(settings)


def test_options_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSCAST_PORT", "9000")
    assert Settings().port == 9000
    assert Settings(port=9001).port == 9001


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({"system.slice/losscast.service/cpu.max": "300000 100000"}, 3),
        ({"system.slice/cpu.max": "200000 100000", "system.slice/losscast.service/cpu.max": "max 100000"}, 2),
        ({"cpu/box/cpu.cfs_quota_us": "500000", "cpu/box/cpu.cfs_period_us": "100000"}, 5),
        ({"other.slice/cpu.max": "100000 100000"}, 64),
        ({}, 64),
    ],
)
def test_threads_follow_the_quotas_of_the_container_or_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], cpus: int
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    own = tmp_path / "own"
    own.write_text("4:memory:/mine\n2:cpu,cpuacct:/box\n0::/system.slice/losscast.service\n")
    monkeypatch.setattr(settings_module, "CGROUP", tmp_path)
    monkeypatch.setattr(settings_module, "OWN_CGROUPS", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert Settings().decode_workers == cpus


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # what must be refused
