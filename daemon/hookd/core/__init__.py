"""What things are and which changes of them are legal: sync, pure, stdlib and msgspec only."""
