"""Tests of daemon/edge/egress: each file mirrors one of its modules, `peers` are the receivers they talk to."""
