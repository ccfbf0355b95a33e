"""The built-in report sections: answer, designs, breakdowns, operators, provenance."""
