"""What a platform would copy, kept working by the acceptance tests."""
