"""Runs by the hundred: what one is asked, who does it, and where what came of it is kept."""
