"""Engine: runs checks in worker processes and makes an assessment of their evidence."""
