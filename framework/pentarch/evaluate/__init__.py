"""Evaluation: plan + machine -> costs -> figures -> verdicts, one design or a batch."""
