pytest_plugins = ["fixtures.services", "fixtures.skips", "fixtures.workers", "fixtures.cli"]
