"""A Shopify to develop against: shops, orders, refunds, and webhooks that arrive the way Shopify sends them."""
