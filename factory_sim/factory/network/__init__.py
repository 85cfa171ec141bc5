"""What carries bytes: pipes that are shared, links with names, weights on their way."""
