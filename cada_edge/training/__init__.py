"""Good images in, a bundle out (torch)."""
