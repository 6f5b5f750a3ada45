"""Adapters that run a bundle."""
