"""Request streams: arrivals, lengths and traces, as pure functions of their seeds."""
