"""Start the cluster's parts, and stop them."""
