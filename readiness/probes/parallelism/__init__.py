"""Probes of `multichip.parallelism`: strategies of training one model on several chips, compared with one chip.

The modes use what PyTorch ships (DistributedDataParallel, `fully_shard`, tensor parallel plans, pipeline schedules);
only attention over a divided sequence is our own, since PyTorch's does not run on every device.
"""
