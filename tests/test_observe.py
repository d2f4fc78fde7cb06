from agentrt.events import CallStarted, RunEnded, RunStarted, ToolEnded, ToolStarted
from agentrt.identity import Identity, SessionKey
from agentrt.observe import Observer, Phase

KEY = SessionKey("default", "s")
WHO = Identity(session="s", agent="a", workload="w")


def tool(event, run_id, **more):
    return event(at_s=2.0, session=KEY, identity=WHO, tool="t", tool_run_id=run_id, **more)


def test_a_session_waits_until_its_last_tool_returns():
    """With two tools in flight the phase is waiting; after both it runs again; at the end it has ended."""
    observer = Observer()
    state = lambda: observer.view(3.0).sessions[KEY]  # noqa: E731
    observer.fold(RunStarted(at_s=1.0, session=KEY, workload="w"))
    observer.fold(tool(ToolStarted, "1"))
    observer.fold(tool(ToolStarted, "2"))
    observer.fold(tool(ToolEnded, "1", duration_s=1.0))
    assert state().phase is Phase.WAITING_ON_TOOL
    observer.fold(tool(ToolEnded, "2", duration_s=1.0))
    assert state().phase is Phase.RUNNING
    observer.fold(RunEnded(at_s=3.0, session=KEY, workload="w"))
    assert state().phase is Phase.ENDED


def test_sessions_are_bounded_and_leave_oldest_first():
    """Beyond the bound the session that was silent longest is forgotten."""
    observer = Observer(max_sessions=2)
    for name in ("a", "b", "a", "c"):
        identity = Identity(session=name, agent="x")
        observer.fold(CallStarted(at_s=0.0, session=identity.session_key, identity=identity, call_id="1"))
    assert [key.session for key in observer.view(0.0).sessions] == ["a", "c"]
