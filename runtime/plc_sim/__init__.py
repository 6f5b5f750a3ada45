"""A PLC that plays the handshake with a station and judges what it is shown."""
