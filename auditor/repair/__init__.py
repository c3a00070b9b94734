"""Restore absent and damaged blobs: build a plan (pure), apply it, recover from an interrupted run."""
