"""Records, checks, files, threads and clocks that all packages use."""
