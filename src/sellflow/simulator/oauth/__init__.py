"""Apps of the simulated Shopify, their installation, and the tokens that they get for it."""
