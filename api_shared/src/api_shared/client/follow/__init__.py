"""The following of a job after its kiq: handle, events, text and results."""
