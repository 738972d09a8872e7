"""What the tests are made of: each file below has its own options, marks and fixtures."""

pytest_plugins = ["targets.plugin", "stack_fixtures", "faults.plugin"]
