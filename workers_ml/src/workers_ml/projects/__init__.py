"""Work on a project's documents and labels: plain functions that do not depend on Taskiq."""
