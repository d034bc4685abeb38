"""RabbitMQ as a private server."""
