"""What keeps the queue and its log in order: one periodic job a file, declared in `roles.periodic_jobs`."""
