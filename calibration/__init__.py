"""Good images in, numbers out: the threshold (later INT8 ranges and drift)."""
