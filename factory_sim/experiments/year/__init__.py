"""A year, hour by hour, from surfaces that short runs of the engine have drawn."""
