"""Training jobs: what they hold, and how they step, save, fail and start again."""
