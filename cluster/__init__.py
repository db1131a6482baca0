"""A request in, an answer out: the Serve app, the coordinator, the page, the settings and the command line."""
