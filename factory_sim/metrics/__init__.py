"""What a run recorded, reduced to the numbers a planner asks for."""
