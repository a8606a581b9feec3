"""A Shopify to develop against: shops, orders, refunds, and webhooks that arrive as Shopify sends them."""
