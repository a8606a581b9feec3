"""The simulated Admin API: Shopify's own schema, executed over the simulator's memory, within its limits."""
