"""The live working set: what a cache would have to hold to never recompute a prompt of a live session.

It is the unit in which a pool's size means something: below about 0.4 of it no order of eviction helps much, above
1.5 none is needed.
"""

from collections.abc import Iterable

from agentrt.evaluation.measure import CallRecord, LoadResult


def live_working_set_tokens(result: LoadResult) -> float:
    """Mean over time of the distinct tokens in the latest prompts of every live session and agent.

    Shared prefixes count once. Message borders are where prompts may part; a message's tokens are its share of the
    prompt's characters, so the figure is an estimate.
    """
    ends = {record.session: record.ended_s for record in result.sessions}
    events: list[tuple[float, str, CallRecord | None]] = [
        (call.started_s, call.session, call) for call in result.calls if call.prompt_tokens and call.segments
    ]
    events += [(ended_s, session, None) for session, ended_s in ends.items()]
    events.sort(key=lambda event: event[0])
    latest: dict[tuple[str, str], CallRecord] = {}
    area, last_s, size = 0.0, events[0][0] if events else 0.0, 0.0
    first_s = last_s
    for at_s, session, call in events:
        area += size * (at_s - last_s)
        last_s = at_s
        if call is None:
            latest = {key: value for key, value in latest.items() if key[0] != session}
        else:
            latest[session, call.agent] = call
        size = _distinct_tokens(latest.values())
    return area / (last_s - first_s) if last_s > first_s else size


def _distinct_tokens(calls: Iterable[CallRecord]) -> float:
    tokens_of: dict[int, float] = {}
    for call in calls:
        per_character = (call.prompt_tokens or 0) / max(1, sum(length for _, length in call.segments))
        for prefix, length in call.segments:
            tokens_of[prefix] = length * per_character
    return sum(tokens_of.values())
