"""Operators, tensors and the networkx dataflow graph of a workload; its operator table."""
