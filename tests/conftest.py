pytest_plugins = [
    "fixtures.services",
    "fixtures.skips",
    "fixtures.surroundings",
    "fixtures.workers",
    "fixtures.cli",
]
