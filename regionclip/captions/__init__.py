"""Reading captions as a stream: whatever the file, one row after the other, bad ones with their place and reason."""
