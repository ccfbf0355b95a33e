"""Search spaces that come with pentarch: YAML files in this package, and nothing else."""
