"""RabbitMQ: its connection, its queues, publishing, and consuming by preference."""
