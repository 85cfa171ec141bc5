"""Planning: which hardware and settings give most, under a grid limit, with promises kept."""
