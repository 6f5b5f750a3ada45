"""What a line leaves behind: rows in a database, read back and exported."""
