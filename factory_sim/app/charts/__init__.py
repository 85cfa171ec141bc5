"""Charts of the page: those of the report, in the same colours, to be looked into. No browser."""
