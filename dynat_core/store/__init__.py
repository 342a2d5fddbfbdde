"""The run store: job folders with locks, run folders, what is asked and answered. No torch: screens import it."""
