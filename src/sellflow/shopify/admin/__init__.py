"""The Admin API: typed calls within Shopify's limits, shared by all processes."""
