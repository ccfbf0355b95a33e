"""Fitted figures of GPUs, one file per device or family (`pentarch.hardware.calibration`)."""
