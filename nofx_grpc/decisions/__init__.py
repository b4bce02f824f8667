"""The form of decision records and of their places: JSON, times, names.  Pure: no file, no clock, no database."""
