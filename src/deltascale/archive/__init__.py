"""What makes a study checkable: the lock of its meaning, packs of it, and verifying them."""
