"""The event log and the queues: events are stored once, queues carry references to them."""
