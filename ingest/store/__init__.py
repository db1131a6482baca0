"""A collection on disk or in an object store: buckets of segments, written by commits, read by snapshots."""
