"""Every GraphQL document that Sellflow sends to the Admin API, each beside the model of its answer."""
