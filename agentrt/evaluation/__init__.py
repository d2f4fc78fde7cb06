"""How agentrt is measured: drive a graph, count what its calls cost, compare two modes. Needs the extra `demo`."""
