"""Named workloads, one YAML file each."""
