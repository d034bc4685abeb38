"""Scenarios in which RabbitMQ, MongoDB, Redis or the network between them breaks."""
