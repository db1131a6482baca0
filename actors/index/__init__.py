"""What a shard holds in memory."""
