"""Search of a YAML design space: spaces, sampling, the run log and the answer."""
