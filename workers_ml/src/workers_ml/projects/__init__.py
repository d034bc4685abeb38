"""What the tasks do with a project's documents and labels: plain functions that know no Taskiq."""
