"""The contracts of the platform."""
