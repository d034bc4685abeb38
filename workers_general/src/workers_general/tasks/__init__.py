"""The general worker's tasks: one module each, listed in `workers_general.main`."""
