"""Compliance: what Shopify asks for on behalf of customers and merchants, and the record of what was done."""
