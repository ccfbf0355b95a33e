"""Partitioners: ways of cutting a workload graph for the devices of a system."""
