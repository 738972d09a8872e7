"""The operator's command line and library: run the stack, look at it, copy SQLite files into it."""
