"""The side of a service: contracts, the kiq of jobs, and the handles that follow them."""
