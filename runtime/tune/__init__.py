"""Which of the ways to run a bundle is fastest on this machine, and where that is kept."""
