pytest_plugins = [
    "fixtures.services",
    "fixtures.skips",
    "fixtures.surroundings",
    "fixtures.workers",
    "fixtures.cli",
    "fixtures.fault_server",
    "fixtures.llama",
]
