"""What carries bytes: ports that transfers share, links and a fabric of them, weights and KV."""
