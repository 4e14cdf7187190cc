"""Ways to train one model on several chips, each held against training on one: what `multichip.parallelism` stands on.

The modes use what PyTorch ships (DistributedDataParallel, `fully_shard`, tensor parallel plans, pipeline schedules);
only attention over a divided sequence is our own, since PyTorch's does not run on every device.
"""
