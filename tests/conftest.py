pytest_plugins = ["fixtures.services", "fixtures.workers"]
