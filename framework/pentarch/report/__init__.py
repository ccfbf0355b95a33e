"""Reports: what a study found, in one HTML file that opens anywhere and needs nothing else."""
