"""Fitted figures of software stacks, one file per stack, group of kernels and device family."""
