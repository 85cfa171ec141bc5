"""What people look at: the run folder, the summary on the terminal, plots. Reads saved results."""

from factory_sim.report.folder import SavedRun, read, save

__all__ = ["SavedRun", "read", "save"]
