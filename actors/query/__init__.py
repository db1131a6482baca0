"""What a shard does with a query: pure functions of rows in memory."""
