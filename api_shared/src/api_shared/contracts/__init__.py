"""What both sides of a job agree on: the contract itself, and the contracts of the platform."""
