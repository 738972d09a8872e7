"""/api/v1: the data of the pages as JSON, described by the types that write it."""
