"""Strategies of training one model on several chips, each compared with training on one: `multichip.parallelism`.

The modes use what PyTorch ships (DistributedDataParallel, `fully_shard`, tensor parallel plans, pipeline schedules);
only attention over a divided sequence is our own, since PyTorch's does not run on every device.
"""
