"""A recorded run played again: as a trace for a viewer of traces, or as a film of one batch."""
