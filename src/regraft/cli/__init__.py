"""The command `regraft`: its arguments, its verbs, and how results are printed."""
