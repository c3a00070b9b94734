"""Archives: open one as a Store, in one pass and constant memory, and write one that is proven whole."""
