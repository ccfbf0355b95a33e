"""Device catalog of the soc back-end."""
