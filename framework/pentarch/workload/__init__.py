"""Workloads: which transformer, which query, which number formats."""
