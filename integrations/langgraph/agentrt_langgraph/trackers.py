"""One tracker per runtime, for as long as the runtime lives: graphs may be built anew for every request."""

import threading
from weakref import WeakSet

from agentrt.ambient import register
from agentrt_langgraph.port import RuntimePort
from agentrt_langgraph.tracker import Tracker

_KEY = "langgraph"
_lock = threading.Lock()
_trackers: WeakSet[Tracker] = WeakSet()


def tracker_of(runtime: RuntimePort) -> Tracker:
    """The tracker of this runtime."""
    with _lock:
        tracker: Tracker | None = runtime.kept.get(_KEY)
        if tracker is None:
            tracker = runtime.kept[_KEY] = Tracker(runtime)
            _trackers.add(tracker)
            register(tracker)
        return tracker


def live_trackers() -> list[Tracker]:
    """Every tracker in use."""
    with _lock:
        return list(_trackers)
