"""A recorded set: what the outside sees of hookd, request by request, to be held against a later version of the code."""
