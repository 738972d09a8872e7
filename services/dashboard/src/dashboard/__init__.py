"""The reader: equity, positions, trades and the state of the database, behind a login."""
