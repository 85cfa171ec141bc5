"""A sweep: one scenario, run at every point of a design over some of its fields."""
