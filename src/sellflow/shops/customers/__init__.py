"""Who a shop's customers are."""
