"""Devices of the Example NPU."""
