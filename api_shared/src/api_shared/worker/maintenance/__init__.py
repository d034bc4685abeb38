"""What keeps overdue jobs, periodic jobs and dead letters moving."""
