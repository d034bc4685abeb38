"""RabbitMQ: a connection that is kept open, the queues, publishing, consuming by preference."""
