import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_the_defaults_are_safe() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert settings.api_keys == ()
    assert settings.workers >= 1


def test_without_keys_it_binds_to_loopback_only() -> None:
    with pytest.raises(ValidationError, match="set LOSSCAST_API_KEYS"):
        Settings(host="0.0.0.0")  # noqa: S104 - what must be refused


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


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # what must be refused
