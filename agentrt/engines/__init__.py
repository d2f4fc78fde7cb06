"""Engines: where actions are carried out. One contract (`base`), a vLLM client, and an embedded engine."""
