"""The operator's page: what a station sees and says, in a browser."""
