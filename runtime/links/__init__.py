"""Adapters through which a PLC sees a station and drives it."""
