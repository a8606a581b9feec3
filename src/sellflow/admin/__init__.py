"""What merchants see in Shopify's admin and services ask for: dead letters, endpoints, queues, settings."""
