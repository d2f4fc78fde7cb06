"""Settings, each an environment variable `AGENTRT_<NAME>` or a keyword argument.

The application and the vLLM plugin read the same class; a field says which side uses it.
"""

from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from agentrt.errors import ConfigError
from agentrt.identity import DEFAULT_TENANT, MAX_NAME_CHARS


class Settings(BaseSettings):
    """Every knob, with its unit and range. Build with `Settings.load()` for readable errors."""

    model_config = SettingsConfigDict(env_prefix="AGENTRT_", extra="ignore", frozen=True)

    disabled: bool = False
    """Both sides: do nothing at all."""

    tenant: str = Field(DEFAULT_TENANT, min_length=1, max_length=MAX_NAME_CHARS)
    """Application: owner of the data this process sends."""

    api_key: SecretStr | None = None
    """Application: bearer token for `/v1/agentrt`, the value of vLLM's `--api-key`."""

    tenant_salt: bool = True
    """Application: give the prefix cache of every tenant but `default` a salt, so that none hits another's blocks."""

    salt_key: SecretStr | None = None
    """Application: secret the salts are derived with, so that nobody can guess them. The same in every process."""

    timeout_s: float = Field(2.0, gt=0, le=60)
    """Application: longest wait for one control call. Requests of the graph never wait for it."""

    queue_size: int = Field(10_000, ge=16, le=1_000_000)
    """Application: events and actions held before the oldest are dropped and counted."""

    breaker_failures: int = Field(3, ge=1, le=100)
    """Application: failures in a row after which the engine is left alone for a while."""

    breaker_reset_s: float = Field(5.0, gt=0, le=600)
    """Application: how long it is left alone."""

    status_period_s: float = Field(1.0, gt=0, le=60)
    """Application: least time between two looks at the engine's status, while sessions are running."""

    warm_budget_tokens: int = Field(8192, ge=0, le=10_000_000)
    """Application: prompt tokens the policies may spend on warming per status period."""

    max_body_bytes: int = Field(262_144, ge=1024, le=16_777_216)
    """Engine: larger messages are answered 413."""

    max_actions: int = Field(256, ge=1, le=10_000)
    """Engine: actions per message; more are answered 413."""

    retain_max_share: float = Field(0.5, ge=0, le=0.95)
    """Engine: share of the pool that may be retained at once; more is clipped."""

    @classmethod
    def load(cls, **overrides: Any) -> "Settings":
        """Read the environment and the overrides; raise ConfigError naming the variable and what is allowed."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            problems = [
                f"AGENTRT_{'_'.join(str(p) for p in e['loc']).upper()}={e['input']!r}: {e['msg']}"
                for e in error.errors()
            ]
            raise ConfigError("; ".join(problems)) from None
