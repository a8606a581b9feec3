"""What Sellflow is compared with: the same work as others would build it, installed on the first run."""
