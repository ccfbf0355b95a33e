"""Systems built on catalog GPUs."""
