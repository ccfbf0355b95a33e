"""Plans: which devices run which part of the graph, and what they say to each other."""
