"""What there is to look at: one module for each view. Figures are those of reports; nothing is computed."""
