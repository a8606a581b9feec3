"""Finds what Shopify knows and no webhook told, and feeds it where webhooks go."""
