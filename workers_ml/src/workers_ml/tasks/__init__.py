"""The ML worker's tasks: one module each, listed in `workers_ml.main`."""
