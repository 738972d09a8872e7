"""What the pages show: read in one consistent transaction each, and kept for when the database is away."""
