"""Values set from outside (score, release) hold until their owner is heard of again."""

from agentrt.identity import Identity
from agentrt.kv.groups import Kind
from agentrt.kv.ownership import Ownership
from agentrt.kv.sessions import Sessions
from agentrt.kv.value import RELEASED


def lift_overrides(ownership: Ownership, sessions: Sessions, identity: Identity) -> None:
    """The agent calls: what was overruled until then is not any more, and a session that goes on is not over.

    Another invocation that was released stays so: its branch does not come back with this one.
    """
    life = sessions.get(identity.session_key)
    resumed = life is not None and life.ended
    for group in ownership.of_session(identity.session_key):
        if group.kind is not Kind.CONTEXT or group.override is None:
            continue
        own = group.agent == identity.agent_key
        if resumed or (own and (group.override != RELEASED or group.invocation == identity.invocation)):
            group.override = None
