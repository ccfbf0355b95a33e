"""The built-in report sections: answer, designs, breakdowns, roofline, operators, provenance."""
