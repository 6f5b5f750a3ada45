"""Encoders, detectors and the CADA head (torch)."""
