"""Dispatch edges scored against LangGraph's own channel writes, on random graphs: `python -m tests.identity`."""
