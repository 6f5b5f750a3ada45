"""A device running a bundle: cameras in, verdicts out. Imports neither torch nor `cada_edge.export`."""
