"""Money: what a site costs, what tokens cost, what they earn. Functions of plain numbers."""
