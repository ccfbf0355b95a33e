"""Decoder-only transformers: families that read model configurations, and named workloads."""
