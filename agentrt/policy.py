"""The contract a policy author implements: four optional verbs.

A policy scores and asks; the runtime decides and says why. Verbs are synchronous, do no I/O, read time from
`view.now`, and are called under one lock. `None` means "no opinion", which is not the same as zero. Only
`observe` may learn. New information enters through `View`, so these signatures never change.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from agentrt.act import Proposal
from agentrt.events import Event
from agentrt.identity import SessionKey
from agentrt.observe import View
from agentrt.predict import Forecast, Horizon
from agentrt.score import Decision, Item

__all__ = ["FAULTS_TO_BENCH", "Policy"]

FAULTS_TO_BENCH = 5
"""Faults in a row, of one verb or at tool calls, after which a policy is asked no more."""


class Policy:
    """Subclass, name it, and override the verbs you need.

    A policy that raises loses that vote; it is logged once and counted, and after several faults in a row it
    is benched (`Runtime.stats()` shows it).
    """

    name: ClassVar[str] = "policy"

    def observe(self, event: Event, view: View) -> None:
        """Learn from an event. The view already includes it."""

    def predict(self, session: SessionKey, horizon: Horizon, view: View) -> Forecast | None:
        """Probabilities over the agents this session calls within the horizon."""
        del session, horizon, view
        return None

    def score(self, decision: Decision, items: Sequence[Item], view: View) -> Sequence[float] | None:
        """One finite value per item, higher is kept or chosen first."""
        del decision, items, view
        return None

    def act(self, view: View) -> Iterable[Proposal]:
        """Wishes, each with its reason, value, cost and expiry."""
        del view
        return ()
