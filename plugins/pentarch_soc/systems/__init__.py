"""Systems built on designed chips."""
