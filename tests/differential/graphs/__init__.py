"""The graphs, one module per family; importing this registers all of them as cases."""

from tests.differential.graphs import agents, failures, flat, functional, models, nested, nodes, pauses, teams, tools

__all__ = ["agents", "failures", "flat", "functional", "models", "nested", "nodes", "pauses", "teams", "tools"]
