"""Teachers: image towers of open_clip made to name regions, each arrangement in a file of its own."""
