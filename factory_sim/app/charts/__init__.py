"""Charts of the page: those of the report, to be looked into. Same names, same colours, no browser."""
