"""What a replica runs: queues, batches, KV blocks and the closed form of equal steps. No SimPy."""
