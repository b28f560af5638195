"""What every room stands on: devices and precision, guards, checkpoints, seeding, files, processes."""
