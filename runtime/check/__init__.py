"""Dialling everything a line would use, without changing anything."""
