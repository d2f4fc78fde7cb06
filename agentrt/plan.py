"""What a call tells the engine about its own future: it travels on the request, next to the identity."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPlan:
    """Plan of one LLM request. Everything is optional; an empty plan is a valid one.

    `priority`: higher is more important; 0 is the engine's default and is not sent. `reuse_p`: probability that the
    same agent calls again in this session. `reuse_s`: expected seconds until then.
    """

    priority: int = 0
    reuse_p: float | None = None
    reuse_s: float | None = None

    def fields(self) -> dict[str, float | str | None]:
        """JSON scalars for the label; None is left out there."""
        return {
            "priority": self.priority or None,
            "reuse_p": None if self.reuse_p is None else round(self.reuse_p, 4),
            "reuse_s": None if self.reuse_s is None else round(self.reuse_s, 3),
        }


NO_PLAN = RequestPlan()
