"""What people look at: the run folder, the summary on the terminal, plots. Reads saved results."""
