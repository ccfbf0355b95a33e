"""CPUs of the catalog."""
