"""The process that starts private servers and ends them with their owner."""
