import pytest

from agentrt import Settings
from agentrt.errors import ConfigError


def test_settings_come_from_the_environment(monkeypatch):
    """Each setting is a variable AGENTRT_<NAME>."""
    monkeypatch.setenv("AGENTRT_TENANT", "acme")
    monkeypatch.setenv("AGENTRT_DISABLED", "1")
    settings = Settings.load()
    assert settings.tenant == "acme"
    assert settings.disabled is True


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("AGENTRT_TIMEOUT_S", "soon", "valid number"),
        ("AGENTRT_TIMEOUT_S", "0", "greater than 0"),
        ("AGENTRT_RETAIN_MAX_SHARE", "2", "less than or equal to 0.95"),
        ("AGENTRT_DISABLED", "perhaps", "valid boolean"),
        ("AGENTRT_TENANT", "", "at least 1 character"),
    ],
)
def test_a_bad_value_names_the_variable_and_what_is_allowed(monkeypatch, variable, value, says):
    """The error tells which variable to change, and to what."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable) as error:
        Settings.load()
    assert says in str(error.value)
    assert value in str(error.value)


def test_the_key_is_not_shown():
    """An API key does not appear when settings are printed."""
    assert "sesame" not in repr(Settings(api_key="sesame"))
