"""What Shopify defines: signatures, headers, tokens and the Admin API."""
