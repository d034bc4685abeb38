pytest_plugins = ["fixtures.services", "fixtures.skips", "fixtures.workers"]
