"""What the operator wrote, turned into `Settings`. Begin with `load`. It knows core alone."""
