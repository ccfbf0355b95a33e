"""Runtime catalog."""
