"""When exchanges trade, read from a calendar library in a child process that ends at once: the library is heavy, its table is not."""
