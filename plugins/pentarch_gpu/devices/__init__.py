"""Device catalog of the gpu back-end."""
