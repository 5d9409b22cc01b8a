"""hookd: a webhook delivery daemon that holds everything in memory and always knows what it lost."""

__version__ = "0.1.0"
