"""Region labels as files of other tools, and what people corrected in these."""
