"""The differential suite: many graphs, run in every way, with and without agentrt, and all that a user sees of it.

`graphs` has the graphs, `cases` what a case is, `ways` the ways to run one, `normal` what may differ (ids and
times, nothing else), `variants` the ways in. The tests are in tests/langgraph/test_differential.py.
"""
