"""The command line: one click group. A command parses, loads its config, calls one function."""
