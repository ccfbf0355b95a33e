"""The Example NPU, a chip that does not exist, as a pentarch back-end."""
