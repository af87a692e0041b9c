"""The stages: one verb a file, joined only by the artifacts they read and write."""
