"""Adapters that give frames."""
