"""The command line: one module per group of commands. Each parses, calls what does the work, and prints."""
