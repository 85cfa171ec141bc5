"""The building around the racks: power chain, cooling plant, weather, battery."""
