"""Workers of the scenarios, and the tasks that they run."""
