"""The suites of `ghostnote bench`, one measured question each."""
