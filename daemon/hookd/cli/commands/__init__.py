"""One command, one file; the file has the command's name."""
