"""Deployments resolved: engine settings, physics, memory, and GPUs with names."""
