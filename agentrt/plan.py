"""What a call tells the engine about its own future: it travels on the request, next to the identity."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from agentrt.config import Settings
from agentrt.identity import DEFAULT_TENANT

MAX_TENANTS = 10_000
"""Tenants whose salt is remembered; others' are derived anew, in microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPlan:
    """Plan of one LLM request. Everything is optional; an empty plan is a valid one.

    `priority`: higher is more important; 0 is the engine's default and is not sent. `reuse_p`: probability that the
    same agent calls again in this session. `reuse_s`: expected seconds until then. `cache_salt`: requests with
    different salts share no cached block; it travels beside the label, never in it.
    """

    priority: int = 0
    reuse_p: float | None = None
    reuse_s: float | None = None
    cache_salt: str | None = None

    def fields(self) -> dict[str, float | str | None]:
        """JSON scalars for the label; None is left out there."""
        return {
            "priority": self.priority or None,
            "reuse_p": None if self.reuse_p is None else round(self.reuse_p, 4),
            "reuse_s": None if self.reuse_s is None else round(self.reuse_s, 3),
        }


NO_PLAN = RequestPlan()


def tenant_salts(settings: Settings) -> Callable[[str], str | None]:
    """Gives the salt that keeps a tenant apart in the prefix cache: 32 hexadecimal digits, the same in every process.

    The default tenant has none, so that its requests hit what stock requests stored. Without `salt_key` anybody who
    knows a tenant's name can compute its salt. With `tenant_salt` off nobody has one.
    """
    key = settings.salt_key.get_secret_value() if settings.salt_key is not None else None
    secret = b"" if key is None else hashlib.blake2b(key.encode("utf-8", "surrogatepass")).digest()

    @functools.lru_cache(MAX_TENANTS)
    def salt_of(tenant: str) -> str | None:
        if tenant == DEFAULT_TENANT or not settings.tenant_salt:
            return None
        name = tenant.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(name, digest_size=16, key=secret, person=b"agentrt-salt").hexdigest()

    return salt_of
