"""Adapters that take verdicts."""
