"""What can be compared and taken away: tables, pictures, LaTeX rows, one-file reports. No torch."""
