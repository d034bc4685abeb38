"""`kiq doctor`: checks of servers, queues and workers."""
