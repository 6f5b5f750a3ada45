"""The process that talks to PLCs: stations, servers and links, out of the pipeline's way."""
