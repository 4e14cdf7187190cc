"""Host: what the machine under the accelerators is and does (processes, memory, disks, folders, scheduling, identity)."""
