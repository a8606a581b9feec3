"""Apps and the shops that installed them."""
