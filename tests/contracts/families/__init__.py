"""Examples of the parts of each family: `EXAMPLES`, name to a function that builds one."""
