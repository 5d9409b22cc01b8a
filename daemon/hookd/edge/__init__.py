"""Where the world is touched: HTTP in and out, signals, logs, files. No edge module imports another, packages apart."""
