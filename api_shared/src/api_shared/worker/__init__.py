"""The worker's side: what runs jobs. A service that only kiqs never imports this."""
