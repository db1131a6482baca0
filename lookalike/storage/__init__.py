"""Files and objects: the only place that opens either."""
