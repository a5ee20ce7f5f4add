"""Recording: a model over a test set, shard by shard, by one process or by many."""
