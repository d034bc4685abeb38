"""The worker, which runs jobs. A service that only kiqs jobs never imports it."""
