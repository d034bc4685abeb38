pytest_plugins = [
    "fixtures.surroundings",
    "fixtures.shared_servers",
    "fixtures.services",
    "fixtures.side_by_side",
    "fixtures.skips",
    "fixtures.workers",
    "fixtures.cli",
    "fixtures.fault_server",
    "fixtures.llama",
]
