"""The side of a service: contracts, kiq, and what follows a job."""
