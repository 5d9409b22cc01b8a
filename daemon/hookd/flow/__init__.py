"""How an event moves: core and trio; no network, no files, no clock but the one it is given."""
