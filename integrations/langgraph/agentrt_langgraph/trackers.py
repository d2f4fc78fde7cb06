"""One tracker per runtime, alive as long as a handler uses it."""

import threading
from weakref import WeakValueDictionary

from agentrt.ambient import register
from agentrt_langgraph.port import RuntimePort
from agentrt_langgraph.tracker import Tracker

_lock = threading.Lock()
_trackers: WeakValueDictionary[int, Tracker] = WeakValueDictionary()


def tracker_of(runtime: RuntimePort) -> Tracker:
    """The tracker of this runtime. It holds the runtime, so the id cannot be taken by another meanwhile."""
    with _lock:
        tracker = _trackers.get(id(runtime))
        if tracker is None:
            tracker = _trackers[id(runtime)] = Tracker(runtime)
            register(tracker)
        return tracker


def live_trackers() -> list[Tracker]:
    """Every tracker in use."""
    with _lock:
        return list(_trackers.values())
