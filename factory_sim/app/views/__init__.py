"""What there is to look at, a module for each view. Figures are those of reports."""
