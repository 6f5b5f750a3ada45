"""Three protocols, one code path: metrics, tables and the report."""
