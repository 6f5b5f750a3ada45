"""Images and folders in, checked; products named for reporting only."""
