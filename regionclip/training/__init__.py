"""Training loops: functions of a session (where they run) and arguments (what they train)."""
