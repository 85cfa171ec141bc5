"""Sizing: how much of a site a traffic needs, and how much traffic a site carries."""
