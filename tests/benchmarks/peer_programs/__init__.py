"""What people would use instead of hookd: each a program of its own, which the benchmark `peers` sets up and runs."""
