"""Sellflow: the backend of a Shopify store's own mobile app, on one Postgres."""

__version__ = "0.1.0"
