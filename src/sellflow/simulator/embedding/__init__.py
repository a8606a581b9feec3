"""Where a merchant and a shopper meet an app: the admin that embeds it, and the storefront's app proxy."""
