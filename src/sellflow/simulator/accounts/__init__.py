"""The Customer Account API of the simulated Shopify: signing in, and what a signed-in customer may read."""
