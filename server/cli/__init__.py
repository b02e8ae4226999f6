"""The commands, one file for each group. What takes long to import is imported inside the commands that need it."""
