"""What a run recorded, reduced to the numbers a planner asks for."""

SCHEMA_VERSION = 2
"""Version of a run's tables and keys; it rises when one of them changes meaning."""
