"""Sensitivity: what a site would gain from a little more of each thing, one at a time."""
